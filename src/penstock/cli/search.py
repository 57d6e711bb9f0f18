"""`penstock search`: asks the running query plane."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.common import JsonFlag, print_json, print_table, read_settings, say

_SNIPPET_CHARS = 70


def search(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    *,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="A picture to search by, instead of words.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", metavar="FILE", help="A question that is spoken, instead of written.")
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", help="What may be found: text, image, audio, video; may be repeated."),
    ] = None,
    filter_json: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help='Such as {"event_time": {"gte": "2026-01-01T00:00Z"}}.'),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="Such as attributes.camera=x100; all hold."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose entries; default: the settings' tenant.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most hits.")] = None,
    deadline_ms: Annotated[int | None, typer.Option("--deadline-ms", help="For the whole search.")] = None,
    url: Annotated[str | None, typer.Option(help="Of the query plane; default: the one that runs here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search by words, by a picture or by voice; shows what was found, where it is, and which channels found it.

    Fields to filter by: key, topic, title, mime, uri, event_time, indexed_at, part, and any attribute as
    attributes.NAME. --filter takes comparisons, lists and and/or/not; --where is the short form for equality.
    """
    from penstock.client import post_search, query_url

    settings = read_settings(context)
    wanted = {
        "text": text,
        "image": None if image is None else _read(image, "picture", settings.query.max_image_bytes),
        "audio": None if audio is None else _read(audio, "sound", settings.query.max_audio_bytes),
        "modalities": modality or None,
        "filter": _filter(filter_json, where or []),
        "tenant": tenant or settings.tenant,
        "limit": limit,
        "deadline_ms": deadline_ms,
    }
    body = {name: value for name, value in wanted.items() if value is not None}
    _check(body)
    target = url or query_url(settings)
    answer = post_search(target, body, settings)
    if as_json:
        print_json(answer)
    else:
        show_answer(answer, target)


def show_answer(answer: dict[str, Any], url: str) -> None:
    """An answer for people: what was understood, a table, and below it what should be known before believing it."""
    if answer.get("transcript"):
        say(f"Understood: {answer['transcript']}")
    rows = [hit_row(rank, hit, url) for rank, hit in enumerate(answer["hits"], start=1)]
    if not any(row["when"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "when"} for row in rows]
    print_table(rows)
    if not rows:
        say("Nothing was found.")
    if answer["partial"]:
        say("This answer is partial: there may be better hits.")
    for channel, why in answer["missing"].items():
        say(f"  without {channel}: {why}")
    if answer.get("notice"):
        say(answer["notice"])


def hit_row(rank: int, hit: dict[str, Any], url: str) -> dict[str, Any]:
    """One hit as a row of the table."""
    found_by = ", ".join(f"{by['channel']} #{by['rank']} ({by['score']:.2f})" for by in hit["found_by"])
    return {
        "#": rank,
        "score": f"{hit['score']:.4f}",
        "kind": _kind(hit),
        "when": when_is(hit),
        "what": _snippet(hit),
        "where": where_is(hit, url),
        "found by": found_by,
    }


def where_is(hit: dict[str, Any], url: str) -> str:
    """Where a person finds the media: the file it came from if known, else the query plane's copy, else its address."""
    path = hit["attributes"].get("path")
    if isinstance(path, str):
        return path
    media_url = hit.get("media_url")
    return url.rstrip("/") + media_url if media_url else str(hit["uri"])


def when_is(hit: dict[str, Any]) -> str:
    """From when to when a moment lasts; empty for what has no times."""
    moment = hit.get("moment")
    return f"{_clock(moment['start_ms'])}–{_clock(moment['end_ms'])}" if moment else ""


def _clock(milliseconds: int) -> str:
    """75,000 → 1:15, as players show it; with hours where there are any."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _kind(hit: dict[str, Any]) -> str:
    """The collection; of a moment that was both seen and heard, both; and whether more of it is to come."""
    moment = hit.get("moment") or {"members": []}
    kind = " + ".join(sorted({member["collection"] for member in moment["members"]})) or str(hit["collection"])
    return f"{kind}, not all of it yet" if hit.get("indexing") else kind


def _snippet(hit: dict[str, Any]) -> str:
    words = hit["moment"]["transcript"] if hit.get("moment") else hit["text"]
    text = " ".join(f"{hit['title']}  {words}".split()) or hit["key"]
    return text if len(text) <= _SNIPPET_CHARS else text[: _SNIPPET_CHARS - 1] + "…"


def _check(body: dict[str, Any]) -> None:
    from penstock.errors import UsageError

    if len(body.keys() & {"text", "image", "audio"}) != 1:
        raise UsageError(
            'say what to look for: either words (`penstock search "a red bicycle"`), --image FILE or --audio FILE'
        )


def _read(file: Path, thing: str, most_bytes: int) -> str:
    """The file in base64."""
    from penstock.errors import UsageError

    try:
        size = file.stat().st_size
        if size > most_bytes:
            raise UsageError(f"{file} has {size:,} bytes; a {thing} to search by may have {most_bytes:,}")
        return base64.b64encode(file.read_bytes()).decode()
    except OSError as error:
        raise UsageError(f"the {thing} {file} cannot be read: {error.strerror}") from error


def _filter(filter_json: str | None, where: list[str]) -> dict[str, Any] | None:
    """--filter and every --where, all of which have to hold."""
    from penstock.errors import UsageError

    conditions: list[dict[str, Any]] = []
    if filter_json is not None:
        try:
            found = json.loads(filter_json)
        except json.JSONDecodeError as error:
            raise UsageError(f"--filter is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise UsageError('--filter must be a JSON object, such as \'{"mime": "image/png"}\'')
        conditions.append(found)
    for term in where:
        name, equals, value = term.partition("=")
        if not equals or not name:
            raise UsageError(f"--where {term!r} is not NAME=VALUE")
        conditions.append({name: _value(value)})
    if len(conditions) <= 1:
        return conditions[0] if conditions else None
    return {"and": conditions}


def _value(text: str) -> str | int | float | bool:
    """A number, truth value or quoted text if it is written as JSON writes one, else the text as it stands."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, (str, int, float, bool)) else text
