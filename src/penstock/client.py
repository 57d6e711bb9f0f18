"""An HTTP client of the query plane: its requests, the JSON of its responses, and its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict, cast
from urllib.parse import quote

import httpx

from penstock.config import read_endpoints, start_hint
from penstock.errors import PenstockError, QueryError, UnavailableError
from penstock.observability import tracing
from penstock.observability.tracing import Header

if TYPE_CHECKING:
    from penstock.config import Settings

_SEARCH = "/v1/search"
_WATCH_TIMEOUT_S = 30.0  # a search of the whole index, and an acknowledgement of Kafka
_MARGIN_S = 10.0  # beyond the deadline that the server enforces

JsonScalar: TypeAlias = str | int | float | bool | None
JsonValue: TypeAlias = "JsonScalar | Sequence[JsonValue] | Mapping[str, JsonValue]"


class FuseJson(TypedDict, total=False):
    """The JSON of `fuse` in a request: the method that makes one list of the rankings, and its normalisation."""

    method: str
    normalise: str


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


# In the form of a call, as `not` is a keyword of the language.
_NamedParts = TypedDict("_NamedParts", {"not": Mapping[str, Sequence[str]]}, total=False)


class SearchRequestJson(_NamedParts, total=False):
    """The JSON body of `POST /v1/search`: what to search for, and options (docs/compose.md).

    Over the limit because each field of the request is a key.
    """

    text: str
    image: str
    audio: str
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


class ChannelPartJson(TypedDict):
    """The part of one channel in the value of a hit. The response has more fields (docs/pages.md)."""

    channel: str
    part: float
    share: float


class CollectionPartJson(TypedDict):
    """The value of a hit in one collection. The response has more fields (docs/pages.md)."""

    channels: Sequence[ChannelPartJson]
    constant: float
    value: float


class ExplanationJson(TypedDict):
    """The reasons for the place of a hit."""

    collections: Sequence[CollectionPartJson]
    combined: str
    fused_score: float
    fused_rank: int
    reranked_rank: int | None
    rank: int
    promoted: bool
    relevance: Mapping[str, float] | None


class FoundByJson(TypedDict):
    """A channel that found an entry, with rank and score."""

    channel: str
    rank: int
    score: float


class MemberJson(TypedDict):
    """An entry of a moment. The response has more fields (docs/search.md)."""

    collection: str


class MomentJson(TypedDict):
    """The range of time that a hit in a video or audio asset covers."""

    start_ms: int
    end_ms: int
    transcript: str
    members: Sequence[MemberJson]


class HitJson(TypedDict):
    """A hit of a search, by the fields that the command line uses. The response has more (docs/search.md)."""

    collection: str
    score: float
    key: str
    title: str
    text: str
    uri: str | None
    attributes: Mapping[str, JsonValue]
    found_by: Sequence[FoundByJson]
    media_url: NotRequired[str | None]
    moment: NotRequired[MomentJson | None]
    indexing: NotRequired[bool]
    relevance: NotRequired[float | None]
    below_floor: NotRequired[bool]
    promoted: NotRequired[bool]
    explain: NotRequired[ExplanationJson | None]


class QueryJson(TypedDict, total=False):
    """The query as it was understood, by the fields that the command line uses."""

    because: Sequence[str]
    did_you_mean: str | None
    proposed_filter: Mapping[str, JsonValue] | None


class SearchResultJson(TypedDict):
    """The JSON of a search result, by the fields that the command line uses."""

    hits: Sequence[HitJson]
    partial: bool
    missing: Mapping[str, str]
    transcript: NotRequired[str | None]
    notices: NotRequired[Sequence[str]]
    next_cursor: NotRequired[str | None]
    changed: NotRequired[bool]
    nothing_found: NotRequired[bool]
    why: NotRequired[str | None]
    query: NotRequired[QueryJson]


class WatchRequestJson(SearchRequestJson, total=False):
    """The JSON body of `POST /v1/watches`: a search with a name (docs/watches.md)."""

    name: str


class WatchNameJson(TypedDict):
    """The watch that an entry matches."""

    id: str
    name: str


class MatchedEntryJson(TypedDict):
    """The entry of a match, by the fields that the command line uses (docs/watches.md)."""

    collection: str
    key: str
    title: str
    text: str


class MatchJson(TypedDict):
    """The JSON of a match."""

    id: str
    watch: WatchNameJson
    relevance: float
    entry: MatchedEntryJson


class WatchJson(TypedDict):
    """The JSON of a watch."""

    id: str
    name: str
    tenant: str
    min_relevance: float
    created_at: str
    search: Mapping[str, JsonValue]


class WatchesJson(TypedDict):
    """The JSON of `GET /v1/watches`."""

    watches: Sequence[WatchJson]
    matches_topic: str


class QueryStatusJson(TypedDict):
    """The JSON of `GET /v1/status`, by the fields that the command line uses."""

    store: str | None
    entries: Mapping[str, int]
    assets: int | None


def query_url(settings: Settings) -> str:
    """Returns the address of the query plane: `query.url`, that of the running `penstock up`, or host and port."""
    if settings.query.url is not None:
        return settings.query.url
    running = read_endpoints(settings.data_dir)
    return running.query_url if running is not None else f"http://{settings.query.host}:{settings.query.port}"


def post_search(url: str, body: SearchRequestJson, settings: Settings) -> SearchResultJson:
    """Sends a search to `/v1/search` and returns the JSON of the result. It is traced if the process traces.

    Raises:
        QueryError: the request is invalid; with the server's message.
        UnavailableError: no query plane responds at the address, or one of its backends is unavailable.
    """
    timeout_s = (body.get("deadline_ms") or settings.query.deadline_ms) / 1000 + _MARGIN_S
    if "audio" in body:
        timeout_s += settings.query.transcription_timeout_s
    span = tracing.current().call(_SEARCH)
    try:
        result = _request(url, settings, "POST", _SEARCH, timeout_s=timeout_s, body=body, headers=span.headers)
    except PenstockError:
        span.end("failed", failed=True)
        raise
    span.end("answered")
    return cast(SearchResultJson, result)


def get_status(url: str, settings: Settings) -> QueryStatusJson:
    """Returns the JSON of the query plane's status. Raises the errors of `post_search`."""
    return cast(QueryStatusJson, _request(url, settings, "GET", "/v1/status", timeout_s=_MARGIN_S))


def create_watch(url: str, body: WatchRequestJson, settings: Settings) -> WatchJson:
    """Creates a watch and returns its JSON. Raises the errors of `post_search`."""
    return cast(WatchJson, _request(url, settings, "POST", "/v1/watches", timeout_s=_WATCH_TIMEOUT_S, body=body))


def list_watches(url: str, tenant: str | None, settings: Settings) -> WatchesJson:
    """Returns the watches of a tenant; None: the default one. Raises the errors of `post_search`."""
    path = "/v1/watches" + _of_tenant(tenant)
    return cast(WatchesJson, _request(url, settings, "GET", path, timeout_s=_WATCH_TIMEOUT_S))


def delete_watch(url: str, watch_id: str, tenant: str | None, settings: Settings) -> None:
    """Deletes a watch. Raises the errors of `post_search`."""
    path = f"/v1/watches/{quote(watch_id, safe='')}{_of_tenant(tenant)}"
    _request(url, settings, "DELETE", path, timeout_s=_WATCH_TIMEOUT_S)


def _of_tenant(tenant: str | None) -> str:
    return "" if tenant is None else f"?tenant={quote(tenant, safe='')}"


def _request(
    url: str,
    settings: Settings,
    method: str,
    path: str,
    *,
    timeout_s: float,
    body: SearchRequestJson | WatchRequestJson | None = None,
    headers: Sequence[Header] = (),
) -> object:
    named = {name: value.decode() for name, value in headers}
    try:
        response = httpx.request(method, url.rstrip("/") + path, json=body, headers=named, timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        reason = str(exc) or type(exc).__name__
        raise UnavailableError(f"no query plane responds at {url} ({reason}). {start_hint(settings)}") from exc
    if response.is_success:
        return response.json() if response.content else None
    raise _problem(response)


def _problem(response: httpx.Response) -> PenstockError:
    """Returns the error that a problem document (RFC 9457) describes."""
    try:
        document = response.json()
        detail = str(document["detail"])
    except (ValueError, KeyError, TypeError):
        document, detail = {}, f"{response.request.url} responded with status {response.status_code}"
    if response.status_code in (429, 503):
        return UnavailableError(detail)
    if response.is_client_error:
        return QueryError(detail, status=response.status_code, field=document.get("field"))
    return PenstockError(f"the query plane failed: {detail}")
