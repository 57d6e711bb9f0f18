"""The JSON of `/v1/watches`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, StrictStr

from penstock.records import Watch
from penstock.serve.schemas.search_request import SearchBody


class WatchBody(SearchBody):
    """A search as `POST /v1/search` takes it, with a name. `min_relevance` is required.

    Over the limit because it has the fields of a search.
    """

    name: StrictStr = Field(min_length=1, max_length=200, description="a label; need not be unique")

    def search_json(self) -> dict[str, object]:
        """Returns the search alone, as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"name"})


class WatchOut(BaseModel):
    """A watch."""

    id: str = Field(description="32 hexadecimal digits; the key of its matches")
    name: str
    tenant: str
    min_relevance: float = Field(description="which an entry has to reach")
    created_at: str = Field(description="RFC 3339; entries that were indexed before do not match")
    search: dict[str, Any] = Field(description="the search, as it was sent")


class WatchesOut(BaseModel):
    """The watches of a tenant, the oldest first."""

    watches: list[WatchOut]
    matches_topic: str = Field(description="the Kafka topic of their matches")


def watch_out(watch: Watch) -> WatchOut:
    """Returns the JSON of a watch."""
    created_at = datetime.fromtimestamp(watch.created_ms / 1000, UTC)
    return WatchOut(
        id=watch.id,
        name=watch.name,
        tenant=watch.tenant,
        min_relevance=watch.min_relevance,
        created_at=created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        search=dict(watch.search),
    )
