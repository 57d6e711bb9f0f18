"""The JSON that `POST /v1/search` takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from penstock.config import FusionMethod, Normalisation, SpellingMode
from penstock.query.types import GroupBy
from penstock.records import Modality


class FuseBody(BaseModel):
    """The method that makes one list of the rankings of the channels, with its options."""

    model_config = ConfigDict(extra="forbid")

    method: StrictStr | None = Field(
        None,
        description="calibrated: by the probability that an entry is right; weighted: a sum of normalised scores; "
        "early: text and image mixed in one space; rrf: ranks only. The setting query.fusion if absent",
        json_schema_extra={"enum": [*FusionMethod, None]},
    )
    normalise: StrictStr | None = Field(
        None,
        description="how method weighted makes scores comparable; the setting query.normalise if absent",
        json_schema_extra={"enum": [*Normalisation, None]},
    )
    k: StrictInt | None = Field(None, description="the constant of method rrf, at least 1")
    weights: dict[str, float] | None = Field(
        None,
        description="weights of collections, and factors of channels within theirs; 1 where one is absent",
        examples=[{"image": 0.5, "text.lexical": 2.0}],
    )
    alpha: float | None = Field(None, description="the share of the text by method early, 0 to 1")


class RerankBody(BaseModel):
    """Whether a model that reads the best hits decides on their order, and how long it may take."""

    model_config = ConfigDict(extra="forbid")

    model: StrictStr | None = Field(
        None, description="auto: the model of the query plane; off; or its name", examples=["auto", "off", "maxsim"]
    )
    budget_ms: StrictInt | None = Field(
        None, description="milliseconds that it may take; the setting query.rerank_ms if absent"
    )
    top: StrictInt | None = Field(
        None, description="number of hits that may change places; the setting query.rerank_top if absent"
    )


class DiversifyBody(BaseModel):
    """Moves hits back that resemble those before them."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(
        0.7,
        alias="lambda",
        description="0 to 1: the share of the score; resemblance has the rest, and 1 changes nothing",
    )


class NotBody(BaseModel):
    """Names what to search away from."""

    model_config = ConfigDict(extra="forbid")

    text: list[StrictStr] | None = Field(None, description="words to avoid; lexical channels ignore them")
    like: list[StrictStr] | None = Field(None, description="ids of entries to avoid; they are no hits either")


class FrameBody(BaseModel):
    """An indexed image or frame to search by."""

    model_config = ConfigDict(extra="forbid")

    id: StrictStr = Field(description="id of an image, a frame of a video, or a page of a document")


class RegionBody(BaseModel):
    """A rectangle of the image, in shares of its sides."""

    model_config = ConfigDict(extra="forbid")

    x: float = Field(description="left edge, 0 to 1")
    y: float = Field(description="upper edge, 0 to 1")
    w: float = Field(description="width, above 0; x + w is at most 1")
    h: float = Field(description="height, above 0; y + h is at most 1")


class UnderstandBody(BaseModel):
    """Says what is made of the words of a query."""

    model_config = ConfigDict(extra="forbid")

    spelling: StrictStr | None = Field(
        None,
        description="what is done with words that are probably misspelt: apply (search the corrected text), suggest "
        "(return it as `did_you_mean`) or off; the setting query.spelling if absent",
        json_schema_extra={"enum": [*SpellingMode, None]},
    )
    synonyms: StrictBool | None = Field(None, description="whether synonyms are searched, too; true if absent")
    rewrite: StrictBool | None = Field(
        None,
        description="whether the generator rewrites the text; if absent, it does where there are `messages` (setting "
        "query.rewrite) and a generator (generate.url)",
    )


class MessageBody(BaseModel):
    """A message of the conversation before a query."""

    model_config = ConfigDict(extra="forbid")

    role: StrictStr = Field(json_schema_extra={"enum": ["user", "assistant"]})
    content: StrictStr


class SearchFields(BaseModel):
    """A query with its conditions. Its parts (text, image, audio, frame, like) may be given together.

    Over the limit because each field of the body is an attribute.
    """

    model_config = ConfigDict(extra="forbid")

    text: StrictStr | None = Field(None, description="the query in words")
    image: StrictStr | None = Field(None, description="an image to search by: JPEG, PNG, WebP…, base64")
    audio: StrictStr | None = Field(
        None,
        description="a spoken query: WAV, MP3, Ogg, MP4…, at most 60 s unless configured otherwise, base64",
    )
    like: list[StrictStr] | None = Field(
        None, description="ids of entries to search for more like them; they are no hits themselves"
    )
    not_: NotBody | None = Field(None, alias="not", description="words and entries to search away from")
    frame: FrameBody | None = Field(None, description="an indexed image or frame to search by, as by `image`")
    region: RegionBody | None = Field(
        None, description="the part of `image` or `frame` to search by; all of it if absent"
    )
    compose: dict[str, float] | None = Field(
        None,
        description="weights of text (with audio), image, frame, like and not, which all must meet in one space then; "
        "1 where one is absent, 0.5 for not. A part of weight 0 is left out",
        examples=[{"text": 0.3, "image": 0.7}],
    )
    modalities: list[Annotated[StrictStr, Field(json_schema_extra={"enum": list(Modality)})]] | None = Field(
        None, description="modalities to search; all if absent"
    )
    filter: dict[str, Any] | None = Field(
        None,
        description='conditions on fields and attributes: {"mime": "image/png"}, {"event_time": {"gte": …}}, '
        '{"attributes.camera": {"in": […]}}; joined by {"and": […]}, {"or": […]}, {"not": …}',
    )
    tenant: StrictStr | None = Field(
        None,
        description="the owner of the entries to search; if absent, the caller's only one, or the default one if it "
        "reads all",
    )
    limit: StrictInt | None = Field(None, description="maximum number of hits; 10 unless configured otherwise")
    deadline_ms: StrictInt | None = Field(
        None, description="milliseconds for the whole search; later channels are left out and reported in `missing`"
    )
    fuse: FuseBody | None = Field(None, description="how the rankings of the channels become one list")
    route: Literal["auto", "all"] | dict[str, float] | None = Field(
        None,
        description="weights of collections: auto, by what the question says; all alike; or weights of collections, "
        "channels and named sources, 1 where one is absent. A weight of 0 excludes a collection or a channel",
        examples=["auto", {"image": 1.0, "text": 0.2}],
    )
    rerank: RerankBody | None = Field(
        None, description="reordering of the best hits by a model that reads them; the settings if absent"
    )
    min_relevance: float | None = Field(
        None,
        description="0 to 1: hits of a lower relevance are cut, and those of an unknown one; 400 without calibration",
    )
    group_by: StrictStr | None = Field(
        None,
        description="what becomes one hit: moment (entries of audio and video close together in time; the default), "
        "asset (all that was found of an asset; the best is the hit, the next are its `others`) or entry (each)",
        json_schema_extra={"enum": [*GroupBy, None]},
    )
    diversify: DiversifyBody | None = Field(
        None, description="move hits back that resemble those before them, such as near copies"
    )
    explain: StrictBool = Field(False, description="add to each hit what its score and its relevance consist of")
    cursor: StrictStr | None = Field(
        None,
        description="`next_cursor` of the page before, with the same request otherwise; only limit, deadline_ms "
        "and explain may differ",
    )
    understand: UnderstandBody | None = Field(
        None, description="what is made of its words: spelling, synonyms, rewriting; the settings if absent"
    )


class SearchBody(SearchFields):
    """A query with its conditions and the conversation before it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "something you eat at breakfast"},
                {
                    "text": "red bicycle",
                    "modalities": ["image"],
                    "filter": {
                        "attributes.camera": {"in": ["x100", "gr3"]},
                        "event_time": {"gte": "2026-01-01T00:00:00Z"},
                    },
                    "limit": 5,
                },
                {
                    "text": "in blue",
                    "like": ["3f8a55c0d1e24b6f9a7b8c9d0e1f2a3b"],
                    "not": {"text": ["velvet"]},
                    "compose": {"text": 0.4, "like": 0.6},
                },
            ]
        },
    )

    messages: list[MessageBody] | None = Field(
        None, description="the conversation before it, the oldest message first, for rewriting; at most 50"
    )
