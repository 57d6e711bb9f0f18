"""The form in which a child returns what it read: lines of JSON, each followed by its pixels.

Unlike a pickle, it can only become text, numbers and pixels, also if the document has taken over its parser.

    document   title, author and number of pages      once the document is open
    page       a page, with pixels behind the line    for each page, as soon as it is read
    end        what was left out                      after the last page of the call
    refused    a reason and a message                 instead of what would follow
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from penstock.errors import BadInputError, Reason
from penstock.media.documents.types import DocumentPage, Figure
from penstock.records import UInt8

_MAX_LINE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DocumentFrame:
    """The facts about a document that is open."""

    title: str
    author: str
    page_count: int


@dataclass(frozen=True, slots=True)
class EndFrame:
    """The end of a call that came to its end: what was left out."""

    notes: tuple[str, ...]


Frame = DocumentFrame | DocumentPage | EndFrame | BadInputError


def write_frame(out: IO[bytes], frame: Frame) -> None:
    """Writes a frame, and flushes it: the process may not live to write the next one."""
    line, images = _FORMS[type(frame)](frame)
    out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    for image in images:
        out.write(np.ascontiguousarray(image).data)
    out.flush()


def read_frames(source: IO[bytes]) -> Iterator[Frame]:
    """Yields the frames that are complete.

    Raises:
        ValueError, KeyError, TypeError: what is there was not written by `write_frame`.
    """
    while (line := source.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
        fields = json.loads(line)
        match fields.pop("kind"):
            case "document":
                yield DocumentFrame(str(fields["title"]), str(fields["author"]), int(fields["page_count"]))
            case "page":
                page = _page(fields, source)
                if page is None:
                    return
                yield page
            case "end":
                yield EndFrame(tuple(map(str, fields["notes"])))
            case "refused":
                yield BadInputError(Reason(fields["reason"]), str(fields["message"]))


_Form = tuple[dict[str, Any], list[UInt8]]


def _form_of_document(frame: DocumentFrame) -> _Form:
    fields = {"title": frame.title, "author": frame.author, "page_count": frame.page_count}
    return {"kind": "document", **fields}, []


def _form_of_page(page: DocumentPage) -> _Form:
    fields = {"number": page.number, "label": page.label, "text": page.text, "heading": page.heading}
    figures = [{"number": figure.number, "alt": figure.alt, "size": _size(figure.pixels)} for figure in page.figures]
    image = None if page.image is None else _size(page.image)
    line = {"kind": "page", **fields, "damage": page.damage, "image": image, "figures": figures}
    images = [] if page.image is None else [page.image]
    return line, images + [figure.pixels for figure in page.figures]


def _form_of_end(frame: EndFrame) -> _Form:
    return {"kind": "end", "notes": list(frame.notes)}, []


def _form_of_refusal(refusal: BadInputError) -> _Form:
    return {"kind": "refused", "reason": str(refusal.reason), "message": str(refusal)}, []


_FORMS: dict[type, Any] = {
    DocumentFrame: _form_of_document,
    DocumentPage: _form_of_page,
    EndFrame: _form_of_end,
    BadInputError: _form_of_refusal,
}


def _size(pixels: UInt8) -> list[int]:
    return [int(pixels.shape[0]), int(pixels.shape[1])]


def _page(fields: dict[str, Any], source: IO[bytes]) -> DocumentPage | None:
    """Returns the page of a line and of the pixels behind it; None if these are not complete."""
    image = None if fields["image"] is None else _pixels(fields["image"], source)
    figures = []
    for figure in fields["figures"]:
        pixels = _pixels(figure["size"], source)
        if pixels is None:
            return None
        figures.append(Figure(int(figure["number"]), pixels, str(figure["alt"])))
    if image is None and fields["image"] is not None:
        return None
    texts = {name: str(fields[name]) for name in ("label", "text", "heading", "damage")}
    return DocumentPage(int(fields["number"]), image=image, figures=tuple(figures), **texts)


def _pixels(size: list[int], source: IO[bytes]) -> UInt8 | None:
    """Returns uint8[height, width, 3]; None if there are fewer bytes."""
    height, width = map(int, size)
    data = source.read(height * width * 3)
    if len(data) < height * width * 3:
        return None
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
