"""The JSON of requests to the query plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

JsonScalar: TypeAlias = str | int | float | bool | None
JsonValue: TypeAlias = "JsonScalar | Sequence[JsonValue] | Mapping[str, JsonValue]"


class FuseJson(TypedDict, total=False):
    """The JSON of `fuse` in a request: the method that makes one list of the rankings, with its options."""

    method: str
    normalise: str
    k: int
    weights: Mapping[str, float]
    alpha: float


class RerankJson(TypedDict, total=False):
    """The JSON of `rerank` in a request: the model, its budget, and how many hits may change places."""

    model: str
    budget_ms: int
    top: int


class UnderstandJson(TypedDict, total=False):
    """The JSON of `understand` in a request: what is made of its words."""

    spelling: str
    synonyms: bool
    rewrite: bool


class FrameJson(TypedDict):
    """The entry whose image is searched by."""

    id: str


class RegionJson(TypedDict):
    """A rectangle of an image, in shares of its sides."""

    x: float
    y: float
    w: float
    h: float


class MessageJson(TypedDict):
    """A message of a conversation: words, or for `ask` a list of words and images."""

    role: str
    content: str | Sequence[Mapping[str, JsonValue]]


# In the form of a call, as `not` is a keyword of the language.
_NamedParts = TypedDict("_NamedParts", {"not": Mapping[str, Sequence[str]]}, total=False)


class SearchOptionsJson(_NamedParts, total=False):
    """The fields of a search besides its text, image and audio (docs/search.md, docs/compose.md).

    Over the limit because each field of the request is a key.
    """

    like: Sequence[str]
    frame: FrameJson
    region: RegionJson
    compose: Mapping[str, float]
    modalities: Sequence[str]
    filter: Mapping[str, JsonValue]
    tenant: str
    limit: int
    deadline_ms: int
    min_relevance: float
    fuse: FuseJson
    rerank: RerankJson
    understand: UnderstandJson
    route: str | Mapping[str, float]
    group_by: str
    diversify: Mapping[str, float]
    explain: bool
    cursor: str
    messages: Sequence[MessageJson]


class SearchRequestJson(SearchOptionsJson, total=False):
    """The JSON body of `POST /v1/search`: what to search for, and options.

    Over the limit because each field of the request is a key.
    """

    text: str
    image: str
    audio: str


class WatchRequestJson(SearchRequestJson, total=False):
    """The JSON body of `POST /v1/watches`: a search with a name (docs/watches.md)."""

    name: str


class AskOptionsJson(SearchOptionsJson, total=False):
    """The fields of a question besides its words, image and audio. `text` is what to search by instead."""

    text: str
    generator: str
    max_sources: int
    profile: Mapping[str, str]
    answer_in: str


class AskRequestJson(AskOptionsJson, total=False):
    """The JSON body of `POST /v1/ask`."""

    question: str
    image: str
    audio: str
    stream: bool
    resumable: bool


class GivenVectorJson(TypedDict):
    """A vector of the whole media, with the fingerprint of the encoder that made it (docs/produce.md)."""

    encoder: str
    values: Sequence[float]


class EventJson(TypedDict, total=False):
    """An event to produce: exactly one of text, data and uri, or delete (docs/produce.md). `data` are bytes.

    Over the limit because each field of an event is a key.
    """

    key: str
    text: str
    data: bytes
    uri: str
    delete: bool
    modality: str
    title: str
    attributes: Mapping[str, JsonScalar | Sequence[JsonScalar]]
    acl: Sequence[str]
    time: str
    id: str
    vectors: Sequence[GivenVectorJson]


class FileOptionsJson(TypedDict, total=False):
    """The fields that apply to all files of a request (docs/produce.md). `prefix` stands before their names."""

    tenant: str
    prefix: str
    title: str
    attributes: Mapping[str, JsonScalar | Sequence[JsonScalar]]
    acl: Sequence[str]
    time: str


class FeedbackOptionsJson(TypedDict, total=False):
    """The fields of `POST /v1/feedback` besides the question and the hit (docs/feedback.md)."""

    action: str
    rank: int
    shown: Sequence[str]
    query_id: str
    client_id: str
    tenant: str
