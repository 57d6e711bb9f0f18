"""The examples of docs/ask.md run as they are written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_documented_examples import DOCS, URL, environment

__all__ = ["environment"]  # a fixture

PAGE = (DOCS / "ask.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_lines_of_a_shell_work(environment: dict[str, str], tmp_path: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    runs = [
        subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        for line in lines
    ]
    assert len(lines) == 5
    first, streamed, followed, narrowed, checked = (run.stdout for run in runs)
    assert "cat" in {hit["key"] for hit in hits_of(first)}
    assert re.findall(r"^event: (\w+)", streamed, re.MULTILINE)[-1] == "done"
    assert {hit["tenant"] for hit in hits_of(followed)} == {"acme"}
    assert json.loads(narrowed)["generator"] == "extractive"
    assert len(hits_of(narrowed)) <= 3
    assert [sentence["support"] for sentence in json.loads(checked)["sentences"]] == ["contradicted"]


def hits_of(output: str) -> list[dict[str, Any]]:
    """Returns the hits of all sources of an answer."""
    answer = json.loads(output)
    return [source["hit"] for source in [*answer["sources"], *answer["also"]]]


def test_the_program_of_an_openai_client_works(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    assert URL in program
    exec(compile(program.replace(URL, url), "docs/ask.md", "exec"), {"__name__": "example"})
    whole, *citations, streamed = capsys.readouterr().out.splitlines()
    assert whole[:30] == streamed[:30] != ""
    assert any("penstock:media.text/cat" in citation for citation in citations)
