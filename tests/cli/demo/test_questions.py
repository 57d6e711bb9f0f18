"""The demo's questions, over its texts in a store in memory, and what counts as a right answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cli.demo.questions import sample_questions
from penstock.cli.demo.samples import sample_events
from penstock.client import PenstockClient
from penstock.config import Settings
from penstock.samples.texts import sample_texts
from penstock.serve.app import build_query_plane, create_app
from tests.cli.demo.test_run import demo_run
from tests.serve.loopback import served
from tools.examples.memory_index import MemoryIndex


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yields the address of a query plane over the texts that answer the questions, and ten others."""
    settings = Settings(
        profile="reference",
        data_dir=tmp_path_factory.mktemp("demo"),
        ingest={"min_free_disk_bytes": 0, "modalities": ("text", "image", "document")},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
        query={"deadline_ms": 60_000},  # type: ignore[arg-type] # what is found counts, not how fast on a busy machine
    )
    answering = {question.key for question in sample_questions(len(sample_texts()))}
    keys = answering | {text.key for text in sample_texts()[:10]}
    index = MemoryIndex(settings)
    events = sample_events(settings, 1, len(sample_texts()), packaged=False)
    index.add_messages(event for event in events if event.label in keys)
    plane = build_query_plane(settings, store=index.store)
    with served(create_app(plane)) as address:
        yield address
    plane.close()


def test_every_question_gets_its_right_answer(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = demo_run(tmp_path, texts=200)
    demo._url = url
    with PenstockClient(url) as client:
        assert all(demo._ask(client, question) for question in sample_questions(len(sample_texts())))
    out, err = capsys.readouterr()
    assert "sound needs about three seconds a kilometre. [1]" in out
    assert "A brake pad is worn out when less than one millimetre of it is left above the metal. [1]" in out
    assert "How much does a passport cost?  (rightly: the index does not say)" in err


def test_another_answer_is_wrong() -> None:
    sound, *_, passport = sample_questions(len(sample_texts()))
    source = {"hit": {"key": sound.key}}
    right = {"abstained": False, "sources": [source], "answer": "It needs about three seconds. [1]"}
    assert sound.is_right(right)  # type: ignore[arg-type]
    for change in ({"abstained": True}, {"sources": []}, {"answer": "It needs a minute. [1]"}):
        assert not sound.is_right(right | change)  # type: ignore[arg-type]
    assert passport.is_right(right | {"abstained": True})  # type: ignore[arg-type]
    assert not passport.is_right(right)  # type: ignore[arg-type]


def test_questions_whose_texts_are_not_streamed_are_left_out() -> None:
    """Documents always are streamed."""
    assert [question.key for question in sample_questions(0)] == ["bicycle-handbook", None]
