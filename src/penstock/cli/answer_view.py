"""Shows answers on the terminal: sentences with the numbers of their sources, and the sources below."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from penstock.cli.render import say
from penstock.cli.search import clock, format_page, media_location

if TYPE_CHECKING:
    from rich.text import Text

    from penstock.client import AnswerEventJson, AnswerJson, CheckedSentenceJson, SentenceJson, SourceJson

_REMARKS: Mapping[str, str] = {
    "partly": "in part",
    "unsupported": "not in the sources",
    "contradicted": "the sources say otherwise",
}
_MAX_QUOTE_CHARS = 300
# Controls, among them the escape that terminals obey, and marks that change the direction of text.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co")


def show_stream(events: Iterable[AnswerEventJson], url: str) -> AnswerJson:
    """Shows an answer while it is written, and returns it.

    A terminal shows what is not checked yet, dimmed, until its sentence takes its place; a file or a pipe gets the
    checked sentences alone.

    Args:
        events: of the answer.
        url: of the query plane, for the addresses of media.

    Raises:
        UnavailableError: the events end without an answer.
    """
    from rich.console import Console
    from rich.live import Live

    console, draft = Console(highlight=False), AnswerDraft()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=10, vertical_overflow="visible") as live:
            live.update(draft.text())
            for event in events:
                draft.add(event)
                live.update(draft.text())
    else:
        for event in events:
            if line := draft.add(event):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
    answer = draft.complete()
    show_rest(answer, url)
    return answer


def show_answer(answer: AnswerJson, url: str) -> None:
    """Shows a whole answer."""
    lines = [answer["answer"]] if answer["abstained"] else map(sentence_line, answer["sentences"])
    sys.stdout.write("\n".join(printable(line) for line in lines) + "\n")
    show_rest(answer, url)


def show_rest(answer: AnswerJson, url: str) -> None:
    """Shows what stands below the sentences: sources, what was left out, and limitations of the answer."""
    for source in answer["sources"]:
        sys.stdout.write("\n" + "\n".join(source_lines(source, url)) + "\n")
    sys.stdout.flush()
    if dropped := answer["dropped"]:
        say(f"{'1 sentence was' if len(dropped) == 1 else f'{len(dropped)} sentences were'} left out:")
        for sentence in dropped:
            say(f"  {_one_line(sentence['text'])}  ({sentence['because'] or 'not in the sources'})")
    if answer["abstained"] and answer["why"]:
        say(f"No answer: {answer['why']}.")
    if answer["partial"]:
        say("This answer is partial: the generator ended early, or a part of the search is missing.")
    for channel, reason in answer["missing"].items():
        say(f"  without {channel}: {reason}")
    for notice in answer["notices"]:
        say(notice)


class AnswerDraft:
    """An answer that is being written: its checked sentences, and the tokens that are not checked yet."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._tokens = ""
        self._checked_chars = 0
        self._answer: AnswerJson | None = None

    def add(self, event: AnswerEventJson) -> str:
        """Adds an event. Returns the line that is now certain; an empty text if there is none."""
        if event.name == "token":
            self._tokens += event.data["text"]
        elif event.name == "sentence":
            return self._add_sentence(event.data)
        elif event.name == "done":
            self._answer = event.data
            self._tokens = ""
            if event.data["abstained"] or not self._lines:
                self._lines.append(printable(event.data["answer"]))
                return self._lines[-1]
        return ""

    def text(self) -> Text:
        """Returns what a terminal shows."""
        from rich.text import Text

        text = Text("\n".join(self._lines))
        nothing_yet = not self._lines and self._answer is None
        if waiting := _one_line(self._tokens[self._checked_chars :]) or ("…" if nothing_yet else ""):
            text.append(("\n" if self._lines else "") + waiting, style="dim")
        return text

    def complete(self) -> AnswerJson:
        """Returns the answer. Raises UnavailableError if it has not come."""
        from penstock.errors import UnavailableError

        if self._answer is None:
            raise UnavailableError("the query plane ended the answer early: ask again")
        return self._answer

    def _add_sentence(self, sentence: CheckedSentenceJson) -> str:
        self._checked_chars = max(self._checked_chars, sentence["replaces"][1])
        if sentence["dropped"]:
            return ""
        self._lines.append(printable(sentence_line(sentence)))
        return self._lines[-1]


def sentence_line(sentence: SentenceJson) -> str:
    """Returns a sentence with the numbers of its sources, and a remark unless they support all of it."""
    numbers = "".join(f"[{number}]" for number in sentence["citations"])
    remark = _REMARKS.get(sentence["support"])
    return " ".join(part for part in (sentence["text"], numbers, f"({remark})" if remark else "") if part)


def source_lines(source: SourceJson, url: str) -> Iterator[str]:
    """Yields a source: its number, title, times or page, and place, and below them what the answer rests on."""
    hit = source["hit"]
    parts = (f"[{source['n']}] {hit['title'] or hit['key']}", _times(source), media_location(hit, url))
    yield "  ".join(_one_line(part) for part in parts if part)
    if source["quote"] is not None:
        yield f"    “{_one_line(source['quote'])}”"


def printable(text: str) -> str:
    """Returns a text without what terminals would obey: sources are whatever a producer sent."""
    return "".join(char if char == "\n" or unicodedata.category(char) not in _UNPRINTABLE else " " for char in text)


def _times(source: SourceJson) -> str:
    start_ms, end_ms = source["start_ms"], source["end_ms"]
    return format_page(source["hit"]) if start_ms is None or end_ms is None else f"{clock(start_ms)}–{clock(end_ms)}"


def _one_line(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= _MAX_QUOTE_CHARS else line[: _MAX_QUOTE_CHARS - 1] + "…"
