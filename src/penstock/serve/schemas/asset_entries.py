"""The JSON of `GET /v1/media/{sha256}/entries`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from penstock.records import Entry
from penstock.serve.schemas.media_urls import thumbnail_url


class AssetEntryOut(BaseModel):
    """An entry of the media, of any collection."""

    id: str
    collection: str = Field(examples=["speech"])
    part: int = Field(description="number within the asset and the collection, from 0")
    text: str = Field(description="transcript or passage; of a frame the words that were read in it")
    start_ms: int = Field(description="milliseconds from the start of the media")
    end_ms: int
    page: int | None = Field(description="page of the document, from 1; null for other media")
    thumbnail_url: str | None = Field(description="path of a small JPEG; null where there is none")


class AssetEntriesOut(BaseModel):
    """The entries of media, in order of time."""

    entries: list[AssetEntryOut]


def asset_entries_out(entries: Sequence[Entry]) -> AssetEntriesOut:
    """Returns the JSON of entries."""
    return AssetEntriesOut(
        entries=[
            AssetEntryOut(
                id=entry.id,
                collection=entry.collection,
                part=entry.part,
                text=entry.text,
                start_ms=entry.start_ms,
                end_ms=entry.end_ms,
                page=entry.page or None,
                thumbnail_url=thumbnail_url(entry),
            )
            for entry in entries
        ]
    )
