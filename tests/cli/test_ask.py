"""`penstock ask` against the query plane with scripted answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.cli.answer_view import AnswerDraft
from penstock.client import AnswerChecked, AnswerToken, CheckedSentenceJson
from penstock.errors import UnavailableError
from penstock.query.generate.types import DoneEvent, SentenceEvent, Support, TokenEvent
from penstock.serve.plane import QueryPlane
from tests.serve.conftest import plane
from tests.serve.loopback import served
from tests.serve.sample_index import IMAGES
from tests.serve.scripted_answers import (
    ANSWER,
    CHECKED,
    FOUND,
    HIT,
    SEARCH,
    SENTENCE,
    SHA,
    SOURCES,
    RepeatedAnswers,
    answer,
    app_over,
)

__all__ = ["plane"]  # a fixture


@pytest.fixture
def answers() -> RepeatedAnswers:
    return RepeatedAnswers()


@pytest.fixture
def url(plane: QueryPlane, answers: RepeatedAnswers) -> Iterator[str]:
    with served(app_over(answers, plane)) as address:
        yield address


def ask(url: str, *arguments: str) -> int:
    return cli.main(["ask", "--url", url, *arguments])


@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
def test_sentences_have_numbers_and_sources_have_file_time_and_quote(
    url: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(url, "What do herons eat?", mode) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Herons eat fish. [1]",
        "A heron calls. [2]",
        "",
        "[1] herons  file:///media/herons",
        "    “Herons eat fish.”",
        "",
        f"[2] film  0:12–0:15  {url}/v1/media/{SHA}",
        "    “A heron calls.”",
    ]


@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
def test_an_abstention_is_shown_with_the_nearest_sources_and_exits_with_3(
    url: str, answers: RepeatedAnswers, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "The sources do not answer this question. Nearest to it: “herons” (text) [1]."
    abstained = answer(text=text, sentences=(), sources=SOURCES[:1], abstained=True, why="no sentence answers it")
    answers.events = (SEARCH, DoneEvent(abstained))
    assert ask(url, "How heavy are herons?", mode) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [text, "", "[1] herons  file:///media/herons"]
    assert "No answer: no sentence answers it." in err


@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
def test_sentences_that_were_left_out_are_reported_with_the_reason(
    url: str, answers: RepeatedAnswers, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(
        SENTENCE, text="Herons eat 90 fish.", citations=(), quotes=(), support=Support.CONTRADICTED, because="no 90"
    )
    partly = replace(SENTENCE, support=Support.PARTLY)
    shown = SentenceEvent(partly, {1: SOURCES[0]}, (0, 19), dropped=False)
    dropped = SentenceEvent(wrong, {}, (19, 38), dropped=True)
    done = DoneEvent(answer(sentences=(partly,), dropped=(wrong,), sources=SOURCES[:1], text="Herons eat fish. [1]"))
    answers.events = (SEARCH, TokenEvent("Herons eat fish [1]. Herons eat 90 fish."), shown, dropped, done)
    assert ask(url, "What do herons eat?", mode) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "Herons eat fish. [1] (in part)"
    assert "90" not in out
    assert "1 sentence was left out:\n  Herons eat 90 fish.  (no 90)" in err


def test_json_is_the_whole_answer(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(url, "What do herons eat?", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["answer"], document["sources"][1]["start_ms"]) == (ANSWER.text, 12_300)


def test_every_option_is_in_the_request(url: str, answers: RepeatedAnswers, tmp_path: Path) -> None:
    picture, voice = tmp_path / "p.png", tmp_path / "v.wav"
    picture.write_bytes(IMAGES["dawn"])
    voice.write_bytes(b"RIFF")
    options = ["--tenant", "acme", "--modality", "text", "--where", "mime=text/plain", "--generator", "extractive"]
    options += ["--max-sources", "3", "--answer-in", "de", "--after", "What are herons?"]
    assert ask(url, "And what do they eat?", "--image", str(picture), "--audio", str(voice), *options) == 0
    (request,) = answers.requests
    assert (request.question, request.generator, request.max_sources) == ("And what do they eat?", "extractive", 3)
    assert (request.search.image, request.search.audio, request.search.access.tenant) == (
        IMAGES["dawn"],
        b"RIFF",
        "acme",
    )
    assert (request.search.modalities, request.answer_in) == (["text"], "de")
    assert request.search.where is not None
    assert [(message.role, message.content) for message in request.messages] == [("user", "What are herons?")]


def test_what_terminals_obey_is_not_printed(
    url: str, answers: RepeatedAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "Herons\x1b]0;owned\x07 eat \u202efish\x1b[2J."
    entry = replace(HIT.entry, title="her\x1b[31mons", uri="file:///\x1b[31m")
    source = replace(SOURCES[0], hit=replace(HIT, entry=entry))
    sentence = replace(SENTENCE, text=hostile, quotes=(replace(SENTENCE.quotes[0], text=hostile),))
    result = replace(FOUND, hits=[source.hit])
    answers.events = (
        replace(SEARCH, search=result, sources=(source,)),
        SentenceEvent(sentence, {1: source}, (0, 0), dropped=False),
        DoneEvent(answer(text=hostile, sentences=(sentence,), sources=(source,), search=result)),
    )
    assert ask(url, "What do herons eat?") == 0
    assert ask(url, "What do herons eat?", "--no-stream") == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "fish" in out


def test_an_answer_that_breaks_off_is_an_error(
    url: str, answers: RepeatedAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.events = (SEARCH, CHECKED, UnavailableError("the generator went"))
    assert ask(url, "What do herons eat?") == 3
    out, err = capsys.readouterr()
    assert out == "Herons eat fish. [1]\n"
    assert err == "penstock: the generator went\n"


def test_no_question_is_refused_without_a_request(
    url: str, answers: RepeatedAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(url) == 2
    assert ask(url, "--image", "nowhere.png", "what?") == 2
    assert answers.requests == []


def test_no_query_plane_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("http://127.0.0.1:9", "what?") == 3
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_the_prompt_is_printed_instead_of_the_answer(
    url: str, answers: RepeatedAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.events = (SEARCH, DoneEvent(answer(prompt="system:\nAnswer from sources.", abstained=True)))
    assert ask(url, "What do herons eat?", "--show-prompt") == 0
    assert capsys.readouterr().out == "system:\nAnswer from sources.\n"
    assert answers.requests[0].search.explain


def test_a_terminal_shows_what_is_not_checked_yet_until_its_sentence_comes() -> None:
    draft = AnswerDraft()
    assert draft.text().plain == "…"
    draft.add(AnswerToken({"text": "Herons eat fish [1]. They"}))
    assert draft.text().plain == "Herons eat fish [1]. They"
    checked: CheckedSentenceJson = {
        "text": "Herons eat fish.",
        "citations": [1],
        "support": "supported",
        "score": 1.0,
        "quotes": [],
        "repaired": False,
        "because": None,
        "replaces": [0, 20],
        "dropped": False,
        "before": "",
        "sources": [],
    }
    draft.add(AnswerChecked(checked))
    assert draft.text().plain == "Herons eat fish. [1]\nThey"
    with pytest.raises(UnavailableError):
        draft.complete()
