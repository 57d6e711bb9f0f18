"""Parses the body of a streamed chat completion as it arrives: pieces of text, tokens, and how it ended.

A server that does not stream sends one JSON document instead, which is one piece here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.query.generate.endpoint import EndpointError, completion_text
from penstock.query.generate.server_events import ServerEvents
from penstock.query.generate.types import TokenUsage

_END = "[DONE]"
_THINKING, _THOUGHT = "<think>", "</think>"
_NO_COMPLETION = "the generator sent what is no chat completion"


@dataclass(frozen=True, slots=True)
class CompletionPiece:
    """A piece of text, which may be empty.

    Attributes:
        thinking: whether it shows that the model is thinking before it answers; that text is left out.
    """

    text: str
    thinking: bool = False


class CompletionStream:
    """Parses one body.

    Attributes:
        usage: the tokens, once the server has sent them.
        finish: why the model ended its text, in the server's words; None: it has not.
        ended: whether the server has sent its last event.
    """

    def __init__(self) -> None:
        self.usage = TokenUsage()
        self.finish: str | None = None
        self.ended = False
        self._events = ServerEvents()
        self._document: bytearray | None = None  # of a server that does not stream
        self._begun = False
        self._halves = _SurrogateHalves()
        self._thoughts = _Thoughts()

    @property
    def complete(self) -> bool:
        """Returns whether the text has ended; usage may follow."""
        return self.ended or self.finish is not None

    def feed(self, part: bytes) -> list[CompletionPiece]:
        """Returns the pieces that this part of the body completes.

        Raises:
            EndpointError: it is no part of a chat completion, or the server reports an error.
        """
        if not self._begun and part.strip():
            self._begun = True
            if part.lstrip().startswith(b"{"):  # no line of an event stream begins so
                self._document = bytearray()
        if self._document is not None:
            self._document += part
            return []
        try:
            return self._pieces(self._events.feed(part))
        except UnicodeDecodeError as exc:
            raise EndpointError("the generator sent what is no UTF-8") from exc

    def end(self) -> list[CompletionPiece]:
        """Returns the pieces that the end of the body completes.

        Raises:
            EndpointError: as `feed`; or the body ended before the text did.
        """
        if self._document is not None:
            pieces = self._whole(bytes(self._document))
        else:
            try:
                pieces = self._pieces(self._events.end())
            except UnicodeDecodeError as exc:
                raise EndpointError("the generator's answer ends inside a character") from exc
        if not self.complete:
            raise EndpointError("the generator's answer ends before it is complete", again=True)
        return [*pieces, *self._thoughts.feed(self._halves.end()), *self._thoughts.end()]

    def _pieces(self, events: Sequence[str]) -> list[CompletionPiece]:
        pieces: list[CompletionPiece] = []
        for event in events:
            if self.ended:
                break
            if event.strip() == _END:
                self.ended = True
            else:
                pieces += self._chunk(_object(event))
        return pieces

    def _chunk(self, chunk: Mapping[str, Any]) -> list[CompletionPiece]:
        if chunk.get("error"):
            raise EndpointError("the generator reported an error while it wrote")
        self._read_usage(chunk.get("usage"))
        choices = chunk.get("choices", ())
        if not isinstance(choices, list):
            raise EndpointError(_NO_COMPLETION)
        if not choices:
            return []
        choice = choices[0]
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict | None):
            raise EndpointError(_NO_COMPLETION)
        delta = delta or {}
        reason = choice.get("finish_reason")
        self.finish = reason if reason and isinstance(reason, str) else self.finish
        pieces = self._thoughts.feed(self._halves.feed(_text_of(delta.get("content"))))
        if delta.get("reasoning_content") or delta.get("reasoning"):
            pieces.append(CompletionPiece("", thinking=True))
        return pieces

    def _whole(self, document: bytes) -> list[CompletionPiece]:
        text = completion_text(document)
        parsed = json.loads(document)
        self._read_usage(parsed.get("usage"))
        reason = parsed["choices"][0].get("finish_reason")
        self.finish = reason if reason and isinstance(reason, str) else "stop"
        return self._thoughts.feed(self._halves.feed(text))

    def _read_usage(self, usage: object) -> None:
        if isinstance(usage, dict):
            self.usage = TokenUsage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


class _SurrogateHalves:
    """Joins the halves of surrogate pairs, which JSON writes one by one, and replaces those that have no other half.

    A token may end within a character, and some servers escape what they have of it: "\\ud83e", then "\\udd89".
    """

    def __init__(self) -> None:
        self._held = ""  # a first half, whose second one may follow

    def feed(self, text: str) -> str:
        if not text:
            return ""
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return _whole_characters(text[: len(text) - len(self._held)])

    def end(self) -> str:
        held, self._held = self._held, ""
        return _whole_characters(held)


def _whole_characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class _Thoughts:
    """Leaves out what a model writes between <think> and </think> before its answer."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "begin"  # then thinking, then answering

    def feed(self, text: str) -> list[CompletionPiece]:
        if self._state == "answering" or not text:
            return [CompletionPiece(text)] if text else []
        self._held += text
        if self._state == "begin":
            begin = self._held.lstrip()
            if begin.startswith(_THINKING):
                self._state = "thinking"
            elif _THINKING.startswith(begin):
                return []
            else:
                return self._answer(self._held)
        before, end, after = self._held.partition(_THOUGHT)
        if end:
            return self._answer(after.lstrip())
        self._held = before[-len(_THOUGHT) :]
        return [CompletionPiece("", thinking=True)]

    def end(self) -> list[CompletionPiece]:
        """Returns text that was held back because it might have become a mark."""
        return self._answer(self._held) if self._state == "begin" else []

    def _answer(self, text: str) -> list[CompletionPiece]:
        self._state, self._held = "answering", ""
        return [CompletionPiece(text)] if text else []


def _object(event: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(event)
    except (ValueError, RecursionError) as exc:
        raise EndpointError(_NO_COMPLETION) from exc
    if not isinstance(parsed, dict):
        raise EndpointError(_NO_COMPLETION)
    return parsed


def _text_of(content: object) -> str:
    """Returns the text of a delta, which some servers split into parts with a type."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for text in texts if isinstance(text, str))
    raise EndpointError(_NO_COMPLETION)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
