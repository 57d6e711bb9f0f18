"""`penstock search`: sends a query to the running query plane and shows the hits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.query_hits import (
    CursorOption,
    DiversifyOption,
    ExplainOption,
    GroupByOption,
    HitRequest,
    PageOption,
    fetch_page,
    say_explanations,
    say_further,
)
from penstock.cli.query_parts import (
    AudioOption,
    ComposeOption,
    FrameOption,
    ImageOption,
    LikeOption,
    NotLikeOption,
    NotTextOption,
    PartOptions,
    RegionOption,
    TextOption,
    only_text,
)
from penstock.cli.query_words import AfterOption, RewriteOption, SpellingOption, SynonymsOption, WordOptions
from penstock.cli.render import print_json, print_table, say

if TYPE_CHECKING:
    from penstock.client import (
        FuseJson,
        HitJson,
        JsonScalar,
        JsonValue,
        RerankJson,
        SearchRequestJson,
        SearchResultJson,
    )
    from penstock.config import Settings

_SNIPPET_CHARS = 70

ModalityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME",
        help="Search only this modality: text, image, audio, video or document. Repeatable.",
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="JSON",
        help='Condition on fields and attributes, such as {"event_time": {"gte": "2026-01-01T00:00Z"}}.',
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="A field or attribute must equal a value, such as attributes.camera=x100. Repeatable; all must hold.",
    ),
]

_DeadlineOption = Annotated[
    int | None,
    typer.Option("--deadline-ms", metavar="MS", help="Deadline of the search; later channels are left out."),
]
_RelevanceOption = Annotated[
    float | None,
    typer.Option("--min-relevance", metavar="0…1", help="Cut hits that are less likely to answer the query."),
]
_FusionOption = Annotated[
    str | None,
    typer.Option(metavar="METHOD", help="Fuse the channels by calibrated, weighted, early or rrf."),
]
_NormaliseOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCALE",
        help="Fuse by weighted scores on this scale: min-max, theoretical-min, z-score, robust, z-by-channel, "
        "log-odds or none.",
    ),
]
_RerankOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Reorder the best hits by a model that reads them: auto, off or its name."),
]
_RerankMsOption = Annotated[
    int | None, typer.Option("--rerank-ms", metavar="MS", help="Time for reranking. Default: query.rerank_ms.")
]
_RerankTopOption = Annotated[
    int | None, typer.Option("--rerank-top", metavar="N", help="Hits that may change places by reranking.")
]
_RouteOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="auto|all|NAME=WEIGHT",
        help="Weigh collections by what the query says, all alike, or as given: image=2, text.lexical=0.5, or a named "
        "source. Repeatable.",
    ),
]


def search(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The query in words.")] = None,
    *,
    text_option: TextOption = None,
    image: ImageOption = None,
    audio: AudioOption = None,
    like: LikeOption = None,
    not_text: NotTextOption = None,
    not_like: NotLikeOption = None,
    frame: FrameOption = None,
    region: RegionOption = None,
    compose: ComposeOption = None,
    modality: ModalityOption = None,
    filter_json: FilterOption = None,
    where: WhereOption = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Search entries of this tenant. Default: the configured tenant.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of hits. Default: query.limit of the query plane.")
    ] = None,
    deadline_ms: _DeadlineOption = None,
    min_relevance: _RelevanceOption = None,
    fusion: _FusionOption = None,
    normalise: _NormaliseOption = None,
    route: _RouteOption = None,
    rerank: _RerankOption = None,
    rerank_ms: _RerankMsOption = None,
    rerank_top: _RerankTopOption = None,
    spelling: SpellingOption = None,
    synonyms: SynonymsOption = None,
    rewrite: RewriteOption = None,
    after: AfterOption = None,
    group_by: GroupByOption = None,
    diversify: DiversifyOption = None,
    explain: ExplainOption = False,
    cursor: CursorOption = None,
    page: PageOption = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the query plane. Default: the one that runs here.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search by any mix of text, an image, voice and indexed entries.

    Shows each hit with its source and the channels that found it. --like, --frame and --not-like take the id of a hit,
    which --json shows.

    Fields for filters: key, topic, title, mime, uri, event_time, indexed_at, part, and any attribute as
    attributes.NAME. --filter accepts comparisons, lists, and, or and not. --where is the short form for equality.
    """
    from penstock.client import query_url, tenant_to_send

    settings = read_settings(context)
    parts = PartOptions(only_text(text, text_option), image, audio, like, not_text, not_like, frame, region, compose)
    body = parts.request(settings.query)
    address = url or query_url(settings)
    if (named := tenant_to_send(tenant, address, settings)) is not None:
        body["tenant"] = named
    if modality:
        body["modalities"] = modality
    if (condition := joined_filter(filter_json, where or [])) is not None:
        body["filter"] = condition
    if limit is not None:
        body["limit"] = limit
    if deadline_ms is not None:
        body["deadline_ms"] = deadline_ms
    if min_relevance is not None:
        body["min_relevance"] = min_relevance
    if (fuse := _fuse(fusion, normalise)) is not None:
        body["fuse"] = fuse
    if route:
        body["route"] = _route(route)
    if reranking := _rerank(rerank, rerank_ms, rerank_top):
        body["rerank"] = reranking
    WordOptions(spelling, synonyms, rewrite, after).add_to(body)
    HitRequest(group_by, diversify, explain, cursor, page).add_to(body)
    _send(body, address, settings, as_json=as_json, page=page or 1)


def _send(body: SearchRequestJson, url: str, settings: Settings, *, as_json: bool, page: int) -> None:
    from penstock.client import post_search
    from penstock.observability import tracing

    tracing.connect(settings, "search")
    result, before = fetch_page(lambda request: post_search(url, request, settings), body, page)
    if as_json:
        print_json(result)
        return
    show_result(result, url, first_rank=before + 1)
    say_further(result, page)


def show_result(result: SearchResultJson, url: str, *, first_rank: int = 1) -> None:
    """Prints the transcript of a spoken query, a table of the hits, and limitations of the result."""
    if result.get("transcript"):
        say(f"Transcript of the query: {result['transcript']}")
    rows = [hit_row(rank, hit, url) for rank, hit in enumerate(result["hits"], start=first_rank)]
    if not any(row["when"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "when"} for row in rows]
    if not any(row["relevance"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "relevance"} for row in rows]
    print_table(rows)
    say_explanations(result, first_rank)
    if not rows:
        say("No hits.")
    if result.get("nothing_found"):
        nearest = " The hits above are the nearest there are." if rows else ""
        say(f"Nothing in the index answers this well: {result.get('why')}.{nearest}")
    if result["partial"]:
        say("This result is partial: better hits may be missing.")
    for channel, reason in result["missing"].items():
        say(f"  without {channel}: {reason}")
    understood = result.get("query", {})
    if meant := understood.get("did_you_mean"):
        say(f"Did you mean: {meant}")
    for reason in understood.get("because", []):
        say(reason)
    if proposed := understood.get("proposed_filter"):
        say(f"The query seems to ask for a part of the index: --filter '{json.dumps(proposed, ensure_ascii=False)}'")
    for notice in result.get("notices", []):
        say(notice)


def hit_row(rank: int, hit: HitJson, url: str) -> Mapping[str, object]:
    """Returns the table row of a hit."""
    found_by = ", ".join(f"{entry['channel']} #{entry['rank']} ({entry['score']:.2f})" for entry in hit["found_by"])
    return {
        "#": rank,
        "score": f"{hit['score']:.4f}",
        "relevance": _relevance(hit),
        "kind": _kind(hit),
        "when": format_moment(hit),
        "what": _snippet(hit),
        "where": media_location(hit, url),
        "found by": found_by,
    }


def _relevance(hit: HitJson) -> str:
    """Returns the relevance in percent, with what is special about it; an empty text if it is not known."""
    relevance = hit.get("relevance")
    if relevance is None:
        return ""
    marks = [("below_floor", "below the floor"), ("promoted", "first for its kind")]
    remarks = ", ".join(words for mark, words in marks if hit.get(mark))
    return f"{relevance:.0%}{f' ({remarks})' if remarks else ''}"


def media_location(hit: HitJson, url: str) -> str:
    """Returns the path of the source file if known, else the URL of the stored copy, else the hit's URI."""
    path = hit["attributes"].get("path")
    if isinstance(path, str):
        return path
    media_url = hit.get("media_url")
    return url.rstrip("/") + media_url if media_url else str(hit["uri"] or hit["key"])


def format_moment(hit: HitJson) -> str:
    """Returns start and end of a moment, such as 1:05–1:12, or the page. An empty text: the hit has neither."""
    moment = hit.get("moment")
    return f"{clock(moment['start_ms'])}–{clock(moment['end_ms'])}" if moment else format_page(hit)


def format_page(hit: HitJson) -> str:
    """Returns the page of a hit in a document, such as `p. 12` or `p. iv (4)`; an empty text for other media."""
    page, label = hit.get("page"), hit.get("page_label")
    if not page:
        return ""
    return f"p. {label} ({page})" if label else f"p. {page}"


def clock(milliseconds: int) -> str:
    """Returns minutes and seconds, with hours if there are any: 75,000 gives 1:15."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _kind(hit: HitJson) -> str:
    """Returns the collections of the hit's entries, with a note if later segments are still being indexed."""
    moment = hit.get("moment")
    collections = sorted({member["collection"] for member in moment["members"]}) if moment else []
    kind = " + ".join(collections) or hit["collection"]
    return f"{kind}, indexing continues" if hit.get("indexing") else kind


def _snippet(hit: HitJson) -> str:
    moment = hit.get("moment")
    passage = moment["transcript"] if moment else hit["text"]
    text = " ".join(f"{hit['title']}  {passage}".split()) or hit["key"]
    return text if len(text) <= _SNIPPET_CHARS else text[: _SNIPPET_CHARS - 1] + "…"


def _fuse(fusion: str | None, normalise: str | None) -> FuseJson | None:
    """Returns the method and the scale that were given, which the query plane checks; a scale needs no method."""
    if normalise is not None:
        return {"method": fusion or "weighted", "normalise": normalise}
    return None if fusion is None else {"method": fusion}


def _route(options: Sequence[str]) -> str | Mapping[str, float]:
    """Returns auto or all, or the weights by name.

    Raises:
        UsageError: an option is neither.
    """
    from penstock.errors import UsageError

    if list(options) in (["auto"], ["all"]):
        return options[0]
    weights: dict[str, float] = {}
    for option in options:
        name, _, weight = option.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError as exc:
            raise UsageError(f"--route {option!r} is none of auto, all and NAME=WEIGHT, such as image=2") from exc
    return weights


def _rerank(model: str | None, budget_ms: int | None, top: int | None) -> RerankJson:
    """Returns the options that were given, which the query plane checks."""
    options: RerankJson = {}
    if model is not None:
        options["model"] = model
    if budget_ms is not None:
        options["budget_ms"] = budget_ms
    if top is not None:
        options["top"] = top
    return options


def joined_filter(filter_json: str | None, where: Sequence[str]) -> Mapping[str, JsonValue] | None:
    """Returns the condition that joins --filter and every --where; None without any."""
    from penstock.errors import UsageError

    conditions: list[Mapping[str, JsonValue]] = []
    if filter_json is not None:
        try:
            condition = json.loads(filter_json)
        except json.JSONDecodeError as exc:
            raise UsageError(f"--filter is not JSON: {exc}") from exc
        if not isinstance(condition, dict):
            raise UsageError('--filter must be a JSON object, such as \'{"mime": "image/png"}\'')
        conditions.append(condition)
    for term in where:
        name, equals, value = term.partition("=")
        if not equals or not name:
            raise UsageError(f"--where {term!r} is not NAME=VALUE")
        conditions.append({name: _value(value)})
    if len(conditions) <= 1:
        return conditions[0] if conditions else None
    return {"and": conditions}


def _value(text: str) -> JsonScalar:
    """Returns a number, truth value or quoted text that is written as in JSON, else the text itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, (str, int, float, bool)) else text
