"""The options of `penstock search` that say what to search for, and the request that they make."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock.client import RegionJson, SearchRequestJson
    from penstock.config import QuerySettings

TextOption = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="The query in words, as TEXT is.")]
ImageOption = Annotated[Path | None, typer.Option("--image", metavar="FILE", help="An image to search by.")]
AudioOption = Annotated[Path | None, typer.Option("--audio", metavar="FILE", help="A spoken query.")]
LikeOption = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="ID", help="Search for more like this entry, by its id (--json). Repeatable."),
]
NotTextOption = Annotated[
    list[str] | None, typer.Option("--not-text", metavar="TEXT", help="Search away from these words. Repeatable.")
]
NotLikeOption = Annotated[
    list[str] | None, typer.Option("--not-like", metavar="ID", help="Search away from this entry. Repeatable.")
]
FrameOption = Annotated[
    str | None, typer.Option("--frame", metavar="ID", help="Search by the image of an indexed image or frame.")
]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", metavar="X,Y,W,H", help="Search by a part of the image or frame, in shares of its sides."),
]
ComposeOption = Annotated[
    str | None,
    typer.Option(
        "--compose", metavar="PART=WEIGHT,…", help="Weights, such as text=0.3,image=0.7. Default: 1, not 0.5."
    ),
]


@dataclass(frozen=True, slots=True)
class PartOptions:
    """The options as they were given."""

    text: str | None = None
    image: Path | None = None
    audio: Path | None = None
    like: Sequence[str] | None = None
    not_text: Sequence[str] | None = None
    not_like: Sequence[str] | None = None
    frame: str | None = None
    region: str | None = None
    compose: str | None = None

    def request(self, limits: QuerySettings) -> SearchRequestJson:
        """Returns the body of a request with the query only; files are read and encoded in base64.

        Raises:
            UsageError: there is nothing to search for, an option is malformed, or a file is unreadable or too large.
        """
        from penstock.errors import UsageError

        if not any((self.text is not None, self.image, self.audio, self.like, self.frame)):
            raise UsageError(
                'give a query: a text (`penstock search "a red bicycle"`), --image FILE, --audio FILE, --frame ID or '
                "--like ID, or several of them"
            )
        body: SearchRequestJson = {}
        if self.text is not None:
            body["text"] = self.text
        if self.image is not None:
            body["image"] = _base64(read_file(self.image, "image", limits.max_image_bytes))
        if self.audio is not None:
            body["audio"] = _base64(read_file(self.audio, "audio file", limits.max_audio_bytes))
        if self.like:
            body["like"] = self.like
        if self.not_text or self.not_like:
            texts = {"text": self.not_text} if self.not_text else {}
            body["not"] = {**texts, **({"like": self.not_like} if self.not_like else {})}
        if self.frame is not None:
            body["frame"] = {"id": self.frame}
        if self.region is not None:
            body["region"] = _region(self.region)
        if self.compose is not None:
            body["compose"] = _weights(self.compose)
        return body


def only_text(argument: str | None, option: str | None) -> str | None:
    """Returns the text, which is given as an argument or as an option.

    Raises:
        UsageError: both are given.
    """
    from penstock.errors import UsageError

    if argument is not None and option is not None:
        raise UsageError("the text is given twice: leave --text out")
    return argument if option is None else option


def _region(text: str) -> RegionJson:
    from penstock.errors import UsageError

    try:
        x, y, width, height = (float(number) for number in text.split(","))
    except ValueError as exc:
        raise UsageError(f"--region {text!r} is not X,Y,W,H, such as 0.25,0,0.5,0.5 for the upper middle") from exc
    return {"x": x, "y": y, "w": width, "h": height}


def _weights(text: str) -> Mapping[str, float]:
    from penstock.errors import UsageError

    weights: dict[str, float] = {}
    for term in text.split(","):
        name, _, number = term.strip().partition("=")
        try:
            weights[name] = float(number)
        except ValueError as exc:
            raise UsageError(f"--compose {text!r} is not PART=WEIGHT,…, such as text=0.3,image=0.7") from exc
    return weights


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_file(file: Path, noun: str, max_bytes: int) -> bytes:
    """Returns the content of a file of a query.

    Raises:
        UsageError: it is unreadable or too large.
    """
    from penstock.errors import UsageError

    try:
        size = file.stat().st_size
        if size > max_bytes:
            raise UsageError(f"the {noun} {file} has {size:,} bytes; the limit for a query is {max_bytes:,}")
        return file.read_bytes()
    except OSError as exc:
        raise UsageError(f"the {noun} {file} cannot be read: {exc.strerror}") from exc
