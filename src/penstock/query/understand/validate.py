"""Step 1, understand: checks a request and normalises it to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.parts.base import QueryPart
from penstock.query.types import GroupBy, HitOptions, Query, SearchRequest
from penstock.query.understand.fuse_options import fuse_options
from penstock.query.understand.parts import check_parts
from penstock.query.understand.rerank_options import rerank_options
from penstock.query.understand.route_options import route_options
from penstock.query.understand.text import normalise_text
from penstock.query.understand.understand_options import understand_options
from penstock.records import COLLECTIONS_OF, Access, Collection, Modality

# A request holds a thread as long as the store hangs, so every deadline needs a limit.
MAX_DEADLINE_MS = 60_000


def validate(request: SearchRequest, settings: QuerySettings) -> Query:
    """Checks a request, normalises it and fills in the defaults. A part of weight 0 is left out.

    Raises:
        QueryError: with the HTTP status and the field at fault.
    """
    parts, given = check_parts(request)
    text = normalise_text(request.text) if QueryPart.TEXT in given and request.text is not None else None
    audio = request.audio if QueryPart.TEXT in given else None
    image = request.image if QueryPart.IMAGE in given else None
    return Query(
        text=text,
        image=None if image is None else _check_size("image", image, settings.max_image_bytes),
        audio=None if audio is None else _check_size("audio", audio, settings.max_audio_bytes),
        collections=_collections(request.modalities),
        modalities_given=request.modalities is not None,
        where=request.where,
        passages_of=_passages_of(request.modalities),
        access=_access(request.access),
        limit=_within("limit", request.limit, default=settings.limit, maximum=settings.max_limit),
        deadline_ms=_within("deadline_ms", request.deadline_ms, default=settings.deadline_ms, maximum=MAX_DEADLINE_MS),
        fuse=fuse_options(request.fuse, settings),
        min_relevance=_share("min_relevance", request.min_relevance),
        hits=HitOptions(
            group_by=_group_by(request.group_by),
            diversify=_share("diversify/lambda", request.diversify),
            explain=request.explain,
        ),
        rerank=rerank_options(request.rerank, settings),
        parts=parts,
        route=route_options(request.route, settings),
        understand=understand_options(request.understand, settings),
    )


def with_transcript(query: Query, transcript: str) -> Query:
    """Returns a spoken query with its text, searched for as if it had been written after the other text."""
    text = " ".join(words for words in (query.text, normalise_text(transcript)) if words)
    return replace(query, text=text, audio=None, transcript=transcript)


def _check_size(name: str, data: bytes, max_bytes: int) -> bytes:
    if not data:
        raise QueryError(f"{name} is empty: it has no bytes", field=f"/{name}")
    if len(data) > max_bytes:
        raise QueryError(
            f"{name} has {len(data):,} bytes, more than the maximum of {max_bytes:,} (setting query.max_{name}_bytes)",
            status=413,
            field=f"/{name}",
        )
    return data


def _collections(modalities: Sequence[str] | None) -> tuple[Collection, ...]:
    if modalities is None:
        return tuple(Collection)
    allowed = ", ".join(Modality)
    if not modalities:
        raise QueryError(f"modalities is an empty list: leave it out to search all of {allowed}", field="/modalities")
    requested: set[Collection] = set()
    for index, name in enumerate(modalities):
        try:
            requested.update(COLLECTIONS_OF[Modality(name)])
        except ValueError as exc:
            message = f"there is no modality {name!r}; there are {allowed}"
            raise QueryError(message, field=f"/modalities/{index}") from exc
    return tuple(collection for collection in Collection if collection in requested)


def _passages_of(modalities: Sequence[str] | None) -> Modality | None:
    """Returns the one modality whose passages are searched; None where neither or both of texts and documents are."""
    given = {Modality.TEXT, Modality.DOCUMENT}.intersection(modalities or ())
    return Modality(given.pop()) if len(given) == 1 else None


def _access(access: Access) -> Access:
    if not access.tenant.strip():
        raise QueryError("tenant is empty: leave it out to search the default tenant", field="/tenant")
    return access


def _group_by(name: str | None) -> GroupBy:
    if name is None:
        return GroupBy.MOMENT
    try:
        return GroupBy(name)
    except ValueError as exc:
        raise QueryError(f"group_by is {name!r}; it can be {', '.join(GroupBy)}", field="/group_by") from exc


def _share(name: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise QueryError(f"{name.replace('/', '.')} is {value}; it can be 0 to 1", field=f"/{name}")
    return value


def _within(name: str, value: int | None, *, default: int, maximum: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= maximum:
        raise QueryError(f"{name} is {value}; it can be 1 to {maximum:,}", field=f"/{name}")
    return value
