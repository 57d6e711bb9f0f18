"""The arguments and results of the tools that a model calls. The descriptions are written for the model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_HITS = 20
MAX_WORDS_CHARS = 800  # of a hit: a passage has up to 200 tokens
MAX_MOMENT_S = 300.0
MAX_MOMENT_CHARS = 6_000  # five minutes of fast speech
MAX_FRAMES = 4
MAX_SOURCES = 10


class ToolArguments(BaseModel):
    """The base of arguments."""

    model_config = ConfigDict(extra="forbid")


class SearchArguments(ToolArguments):
    """The arguments of `search`."""

    query: str = Field(min_length=1, max_length=2_000, description="what to look for, in words of any language")
    kinds: list[Literal["text", "image", "audio", "video", "document"]] | None = Field(
        None, description="only these kinds of media; all if absent"
    )
    limit: int = Field(8, ge=1, le=MAX_HITS, description="maximum number of hits")
    min_relevance: float | None = Field(
        None, ge=0, le=1, description="only hits whose estimated probability of answering the query is at least this"
    )
    filter: dict[str, Any] | None = Field(
        None,
        description='conditions: {"attributes.camera": "x100"}, {"event_time": {"gte": "2026-01-01T00:00:00Z"}}',
    )


class AskArguments(ToolArguments):
    """The arguments of `ask`."""

    question: str = Field(min_length=1, max_length=2_000, description="a question that stands alone")
    max_sources: int = Field(6, ge=1, le=MAX_SOURCES, description="maximum number of sources")


class ShowArguments(ToolArguments):
    """The arguments of `show`."""

    id: str = Field(min_length=1, max_length=64, description="`id` of a hit whose `image` is true")
    width: Literal[160, 320, 640] = Field(640, description="longer side, pixels")


class MomentArguments(ToolArguments):
    """The arguments of `moment`."""

    media: str = Field(min_length=1, max_length=200, description="`media` of a hit in audio or video")
    id: str | None = Field(None, max_length=64, description="`id` of that hit, which makes it faster")
    start_s: float = Field(ge=0, description="seconds from the start of the media")
    end_s: float = Field(gt=0, description=f"at most {MAX_MOMENT_S:g} s later")


class ToolHit(BaseModel):
    """A hit."""

    id: str
    kind: str = Field(description="text, image, speech, frame, sound or page")
    title: str
    words: str = Field(description="passage, transcript or caption, cut after some 800 characters")
    relevance: float | None = Field(description="estimated probability that it answers the query; null: not known")
    source: str = Field(description="where it comes from")
    media: str | None = Field(description="for `moment`; null if the media are not stored")
    start_s: float | None = Field(description="of the moment in audio or video; null without times")
    end_s: float | None
    page: int | None = Field(description="of a document, from 1; null for other media")
    page_label: str | None = Field(description="the name of the page where it has another one, such as iv or a sheet")
    image: bool = Field(description="whether `show` has an image of it")


class ToolHits(BaseModel):
    """The result of `search`."""

    hits: list[ToolHit] = Field(description="best first")
    nothing_found: bool = Field(description="whether nothing answers the query well; the hits are the nearest")
    did_you_mean: str | None


class ToolSource(BaseModel):
    """A source of an answer."""

    n: int = Field(description="its number in the answer")
    id: str
    title: str
    source: str = Field(description="where it comes from")
    quote: str | None = Field(description="what the answer rests on, verbatim")
    media: str | None = Field(description="for `moment`; null if the media are not stored")
    start_s: float | None = Field(description="of the quote in audio or video; null without times")
    end_s: float | None
    page: int | None = Field(description="of the document that is quoted, from 1; null for other media")
    page_label: str | None = Field(description="the name of the page where it has another one, such as iv or a sheet")


class ToolAnswer(BaseModel):
    """The result of `ask`."""

    answer: str = Field(description="sentences that were checked against their sources, with [1], [2] … behind them")
    abstained: bool = Field(description="whether the sources do not answer the question")
    why: str | None = Field(description="the reason for that")
    sources: list[ToolSource]


class ToolImage(BaseModel):
    """The result of `show`, beside the image."""

    id: str
    mime: str
    bytes: int


class ToolFrame(BaseModel):
    """A frame of a moment, whose image is part of the result."""

    id: str
    start_s: float
    end_s: float


class ToolMoment(BaseModel):
    """The result of `moment`, beside the images of its frames."""

    start_s: float
    end_s: float
    words: str = Field(description="the transcript, in order of time")
    frames: list[ToolFrame] = Field(description="in the order of the images")
