"""`GET /v1/media/{sha256}/entries` and `/captions.vtt`: what is indexed of media, as a list and as captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Query, Response

from penstock.records import Collection, Entry
from penstock.serve import problems
from penstock.serve.dependencies import EntryLookupDependency
from penstock.serve.linked_routes import MediaAccess, MediaAccessDependency, WordsRoute
from penstock.serve.schemas.asset_entries import AssetEntriesOut, asset_entries_out
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.web_vtt import Cue, web_vtt

KnownEntry: TypeAlias = Annotated[
    str | None, Query(description="id of any entry of the media, such as that of a hit: they are then read faster")
]

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
# Words change when their media are indexed again.
_CACHE_CONTROL = "private, max-age=300"
_CAPTIONS: problems.OpenApiResponse = {
    "description": "WebVTT; each cue is named by the id of its entry and a number",
    "content": {"text/vtt": {"schema": {"type": "string"}}},
}

router = APIRouter(tags=["media"], route_class=WordsRoute)


@router.get("/v1/media/{sha256}/entries", responses={**problems.RESPONSES, 404: problems.response("No such name")})
async def entries(
    sha256: str,
    service: EntryLookupDependency,
    media_access: MediaAccessDependency,
    *,
    entry: KnownEntry = None,
    collection: Annotated[list[Collection] | None, Query(description="collections to list; all if absent")] = None,
) -> AssetEntriesOut:
    """Lists a tenant's entries of media in order of time; none if it has none."""
    return asset_entries_out(await _entries(service, sha256, media_access, collection or list(Collection), entry))


@router.get(
    "/v1/media/{sha256}/captions.vtt",
    response_class=Response,
    responses={**problems.RESPONSES, 200: _CAPTIONS, 404: problems.response("No such name")},
)
async def captions(
    sha256: str,
    service: EntryLookupDependency,
    media_access: MediaAccessDependency,
    entry: KnownEntry = None,
) -> Response:
    """Returns the transcript of audio or video as captions; without cues if the tenant has none."""
    spoken = await _entries(service, sha256, media_access, [Collection.SPEECH], entry)
    cues = [Cue(passage.start_ms, passage.end_ms, passage.text, passage.id) for passage in spoken]
    headers = {**_HEADERS, "Content-Type": "text/vtt; charset=utf-8", "Cache-Control": _CACHE_CONTROL}
    return Response(web_vtt(cues), headers=headers)


async def _entries(
    service: EntryLookup, sha256: str, allowed: MediaAccess, collections: Sequence[Collection], entry: str | None
) -> Sequence[Entry]:
    """Returns the entries of media: by a link only those of the asset that it was made for."""
    if allowed.is_linked:
        return await service.of_asset(sha256, allowed.access, collections, entry or "")
    return await service.of_media(sha256, allowed.access, collections, entry)
