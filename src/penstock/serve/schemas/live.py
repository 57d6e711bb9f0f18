"""The JSON of the events of `GET /v1/live`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from penstock.records import Entry, IndexChange
from penstock.serve.schemas.media_urls import thumbnail_url
from penstock.serve.schemas.times import rfc3339


class IndexedOut(BaseModel):
    """An asset whose entries changed: `event: indexed`."""

    tenant: str
    topic: str
    key: str
    title: str | None = Field(description="title of its first new entry; null if that cannot be read")
    entry_id: str | None = Field(description="its first new entry; null if it was deleted")
    thumbnail_url: str | None = Field(description="path of a small JPEG of that entry; null where there is none")
    counts: dict[str, int] = Field(
        examples=[{"speech": 4, "frame": 9}], description="its entries by collection, so far"
    )
    deleted: bool
    complete: bool = Field(description="whether no further segment of this audio, video or document follows")
    indexed_at: str = Field(description="RFC 3339: time of the write to the index")
    fresh_ms: int = Field(description="from producing the event, by Kafka's timestamp, to that write; not negative")


class MissedOut(BaseModel):
    """Changes that the client did not get: `event: missed`."""

    changes: int | None = Field(description="how many, of a client that reads too slowly; null: not known")


class FeedOut(BaseModel):
    """Whether changes are received now: `event: feed`, first and whenever it changes."""

    available: bool


def indexed_out(change: IndexChange, entry: Entry | None) -> IndexedOut:
    """Returns the JSON of a change. `entry` is the first new one, None if it is not known."""
    return IndexedOut(
        tenant=change.tenant,
        topic=change.topic,
        key=change.key,
        title=entry and entry.title,
        entry_id=first_new_entry(change),
        thumbnail_url=entry and thumbnail_url(entry),
        counts={collection.value: count for collection, count in change.counts.items()},
        deleted=change.deleted,
        complete=change.complete,
        indexed_at=rfc3339(change.indexed_at_ms),
        fresh_ms=max(0, change.indexed_at_ms - change.timestamp_ms),
    )


def first_new_entry(change: IndexChange) -> str | None:
    """Returns the id of the first entry that is new with a change."""
    return next((ids[0] for ids in change.new_entry_ids().values() if ids), None)
