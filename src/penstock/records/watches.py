"""Standing queries, and the entries that match them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.records.access import Access
from penstock.records.entries import Entry
from penstock.records.events import Version, digest_of


@dataclass(frozen=True, slots=True)
class Watch:
    """A standing query: a search whose matches are written to a topic as they are indexed.

    Attributes:
        id: 32 hexadecimal digits.
        name: a label.
        tenant: the owner of the watch and of the entries that match it.
        min_relevance: 0 to 1, which an entry has to reach.
        created_ms: milliseconds since the epoch; what was indexed before does not match.
        search: the JSON of the search, as `POST /v1/search` takes it.
        labels: of the caller who made it: only entries with one of them match. None: all entries of the tenant.
    """

    id: str
    name: str
    tenant: str
    min_relevance: float
    created_ms: int
    search: Mapping[str, object] = field(repr=False)
    labels: frozenset[str] | None = None

    @property
    def access(self) -> Access:
        """The entries that may match."""
        return Access(self.tenant, self.labels)

    def is_shown_to(self, access: Access) -> bool:
        """Returns whether a caller may see the watch: whether it reads all that may match."""
        if self.tenant != access.tenant:
            return False
        return access.labels is None or (self.labels is not None and self.labels <= access.labels)


@dataclass(frozen=True, slots=True)
class WatchMatch:
    """An entry that matches a watch."""

    watch: Watch
    entry: Entry
    version: Version
    relevance: float

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same if the match is written again: of watch, entry and version."""
        version = self.version
        return digest_of(
            self.watch.id, self.entry.id, str(version.timestamp_ms), str(version.partition), str(version.offset)
        )
