"""Paths of the routes that show and play entries."""

from __future__ import annotations

from urllib.parse import quote

from penstock.assets import sha256_of
from penstock.query.types import Hit
from penstock.records import TIMED_COLLECTIONS, VISUAL_COLLECTIONS, Entry
from penstock.serve.media_links import entry_name, link, media_name, words_name

PDF_MIME = "application/pdf"


def media_url(uri: str, tenant: str) -> str | None:
    """Returns the path of media by their address; None for a claim check, whose address is in `uri`."""
    sha256 = sha256_of(uri)
    return None if sha256 is None else link(f"/v1/media/{sha256}", media_name(sha256), tenant)


def page_url(entry: Entry) -> str | None:
    """Returns the path of a PDF with the page at which a browser opens it; None for others."""
    if entry.mime != PDF_MIME or not entry.page or (path := media_url(entry.uri, entry.asset.tenant)) is None:
        return None
    return f"{path}#page={entry.page}"


def captions_url(entry: Entry) -> str | None:
    """Returns the path of the captions of an entry's audio or video; None without stored media."""
    sha256 = sha256_of(entry.uri)
    if sha256 is None or entry.collection not in TIMED_COLLECTIONS:
        return None
    tenant, path = entry.asset.tenant, f"/v1/media/{sha256}/captions.vtt"
    signed = link(path, words_name(sha256, entry.id), tenant)
    query = signed.removeprefix(path).removeprefix("?") or f"tenant={quote(tenant, safe='')}"
    return f"{path}?entry={quote(entry.id, safe='')}&{query}"


def thumbnail_url(entry: Entry) -> str | None:
    """Returns the path of the thumbnail of an entry; None if there can be none."""
    is_shown = is_pictured(entry) or entry.mime.startswith("video/")
    return thumbnail_path(entry) if is_shown else None


def is_pictured(entry: Entry) -> bool:
    """Returns whether an entry has an image of its own: a passage of a document has that of its page."""
    return entry.collection in VISUAL_COLLECTIONS or bool(entry.thumbnail)


def thumbnail_path(entry: Entry, *, unnamed_tenant: str | None = None) -> str:
    """Returns the path of the thumbnail of an entry that has one. That of the unnamed tenant needs no tenant."""
    tenant = entry.asset.tenant
    path = f"/v1/entries/{entry.id}/thumbnail"
    signed = link(path, entry_name(entry.id), tenant)
    if signed != path or tenant == unnamed_tenant:
        return signed
    return f"{path}?tenant={quote(tenant, safe='')}"


def hit_thumbnail_url(hit: Hit) -> str | None:
    """Returns the path of the thumbnail of a hit: of a moment its best frame, else that of its time."""
    frame = hit.moment.frame if hit.moment else None
    return thumbnail_url(frame or hit.entry)
