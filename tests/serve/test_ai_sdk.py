"""The UI message stream, by the reader of the AI SDK itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from penstock.errors import UnavailableError
from tests.serve.loopback import served
from tests.serve.routes.test_openai import answers, app
from tests.serve.scripted_answers import ANSWER, CHECKED, SEARCH, SHA, RepeatedAnswers

__all__ = ["answers", "app"]  # fixtures

pytestmark = [
    pytest.mark.operate,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm installs the AI SDK, and there is none"),
]
_PACKAGE = "ai@7"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the AI SDK and the script that reads a stream by it."""
    folder = tmp_path_factory.mktemp("ai-sdk")
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", _PACKAGE], cwd=folder, check=True)
    shutil.copy(Path(__file__).with_name("read_ui_stream.mjs"), folder)
    return folder


def read(app: FastAPI, folder: Path) -> Any:
    with served(app) as url:
        address = f"{url}/v1/chat/completions?protocol=ai-sdk"
        done = subprocess.run(
            ["node", "read_ui_stream.mjs", address], cwd=folder, check=True, capture_output=True, timeout=60
        )
    return json.loads(done.stdout)


def test_the_reader_makes_a_message_with_text_sources_and_the_whole_answer(app: FastAPI, node_folder: Path) -> None:
    result = read(app, node_folder)
    assert result["problems"] == []
    parts = {part["type"]: part for part in result["message"]["parts"]}
    assert (parts["text"]["text"], parts["text"]["state"]) == (ANSWER.text, "done")
    assert (parts["source-document"]["sourceId"], parts["source-document"]["title"]) == ("1", "herons")
    assert parts["source-url"]["url"].endswith(f"/v1/media/{SHA}#t=12.3,15.0")
    assert parts["data-penstock"]["data"]["answer"] == ANSWER.text


def test_the_reader_learns_why_an_answer_ended(app: FastAPI, answers: RepeatedAnswers, node_folder: Path) -> None:
    answers.events = (SEARCH, CHECKED, UnavailableError("the generator went"))
    assert "the generator went" in str(read(app, node_folder)["problems"])
