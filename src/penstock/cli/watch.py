"""`penstock watch`: keeps searches whose matches are written to a topic, and follows their matches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, read_settings, require_kafka, stopped_by_signals
from penstock.cli.render import print_json, print_json_line, print_table, say

if TYPE_CHECKING:
    from penstock.client import MatchJson, WatchRequestJson
    from penstock.config import Settings

app = typer.Typer(
    help="Keep searches, and get what matches them seconds after it was indexed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_TenantOption = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Owner of the watches.")]
_FromStartOption = Annotated[bool, typer.Option("--from-start", help="Begin with the oldest match that the topic has.")]
_RelevanceOption = Annotated[
    float, typer.Option("--min-relevance", metavar="0…1", help="Relevance that an entry has to reach.")
]
_POLL_S = 0.5


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A label of the watch.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to search for.")],
    *,
    min_relevance: _RelevanceOption = 0.5,
    modality: Annotated[
        list[str] | None, typer.Option("--modality", metavar="NAME", help="Only this modality. Repeatable.")
    ] = None,
    filter_json: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Condition on fields and attributes.")
    ] = None,
    tenant: _TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a search. Its matches go to the topic of matches; `penstock watch tail` shows them."""
    from penstock.client import create_watch, query_url
    from penstock.errors import UsageError

    body: WatchRequestJson = {"name": name, "text": text, "min_relevance": min_relevance}
    if filter_json is not None:
        try:
            body["filter"] = json.loads(filter_json)
        except ValueError as exc:
            raise UsageError(f"--filter is not JSON: {exc}") from exc
    if modality:
        body["modalities"] = modality
    if tenant is not None:
        body["tenant"] = tenant
    settings = read_settings(context)
    watch = create_watch(query_url(settings), body, settings)
    if as_json:
        print_json(watch)
    else:
        say(f"watch {watch['id']} is kept; `penstock watch tail {watch['id']}` shows its matches")


@app.command("list")
def list_(context: typer.Context, *, tenant: _TenantOption = None, as_json: JsonFlag = False) -> None:
    """List the watches of a tenant, the oldest first."""
    from penstock.client import list_watches, query_url

    settings = read_settings(context)
    answer = list_watches(query_url(settings), tenant, settings)
    if as_json:
        print_json(answer)
        return
    print_table(
        [
            {
                "id": watch["id"],
                "name": watch["name"],
                "text": watch["search"].get("text", ""),
                "min_relevance": watch["min_relevance"],
                "created": watch["created_at"],
            }
            for watch in answer["watches"]
        ]
    )


@app.command("delete")
def delete(
    context: typer.Context,
    watch_id: Annotated[str, typer.Argument(metavar="ID", help="As `penstock watch list` shows it.")],
    *,
    tenant: _TenantOption = None,
) -> None:
    """Delete a watch. Matches that were written already stay in their topic."""
    from penstock.client import delete_watch, query_url

    settings = read_settings(context)
    delete_watch(query_url(settings), watch_id, tenant, settings)
    say(f"watch {watch_id} is deleted")


@app.command("tail")
def tail(
    context: typer.Context,
    watch_id: Annotated[str | None, typer.Argument(metavar="ID", help="Only the matches of this watch.")] = None,
    *,
    from_start: _FromStartOption = False,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="End after this many matches; 0: never.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show matches as they are written, until Ctrl-C. With --json, one JSON document a line."""
    settings = connected_settings(context)
    require_kafka(settings)
    for number, match in enumerate(_matches(settings, watch_id, from_start=from_start), start=1):
        if as_json:
            print_json_line(match)
        else:
            say(match_line(match))
        if number == limit:
            return


def match_line(match: MatchJson) -> str:
    """Returns a match as a line of text."""
    entry = match["entry"]
    title = entry["title"] or entry["key"]
    page = f", p. {entry['page']}" if entry.get("page") else ""  # absent from matches of older evaluators
    text = " ".join(str(entry["text"]).split())[:80]
    place = f"{entry['collection']} {entry['key']}{page}"
    return f"{match['relevance']:.2f}  {match['watch']['name']}: {title}  [{place}]  {text}"


def _matches(settings: Settings, watch_id: str | None, *, from_start: bool) -> Iterator[MatchJson]:
    """Yields the matches that are written, each once, until a signal."""
    from penstock.broker.tail import KafkaTail

    seen: set[str] = set()
    topic = KafkaTail(settings.kafka, settings.kafka.matches_topic, from_start=from_start)
    try:
        with stopped_by_signals() as stop:
            while not stop.is_set():
                for record in topic.poll(_POLL_S).records:
                    match = json.loads(record.value or b"null")
                    if match is None or match["id"] in seen or watch_id not in (None, match["watch"]["id"]):
                        continue
                    seen.add(match["id"])
                    yield match
    finally:
        topic.close()
