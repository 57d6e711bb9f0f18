"""Computes the hash by which two events of an asset have the same entries, their labels apart."""

from __future__ import annotations

from penstock.assets import sha256_of
from penstock.records import ClaimCheck, Event, digest_of


def content_hash(event: Event, settings_hash: str) -> str:
    """Returns a hash of all that the entries of an event are computed from, without its labels and times.

    Empty where that is not known: the media lie elsewhere, and may be others by now.

    Args:
        event: with a claim check to its media.
        settings_hash: of the settings that determine entries.
    """
    sha256 = sha256_of(event.payload.uri) if isinstance(event.payload, ClaimCheck) else None
    if sha256 is None:
        return ""
    title = "" if event.has_media_title else event.title
    given = filter(None, [event.hash_of_vectors()])
    return digest_of(sha256, title, event.attributes_json, event.content_type or "", settings_hash, *given)
