"""Cuts the hits of a search into pages that neither repeat nor skip one.

A page searches again as deep as it reaches, and leaves out the hits that the pages before have shown. Its cursor names
them, and pins what their order depended on. So while the index stays as it is, all pages together are what one large
page would be. If it changed, or a channel was late, hits that the pages before should have shown come next, those that
they did show do not come again, and `changed` says so.

The cost of a page is that of a search for all hits up to its end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.encoders.profiles import Profile
from penstock.errors import QueryError
from penstock.query.cursor import DIGEST_BYTES, HIT_BYTES, Cursor, decode_cursor, encode_cursor, outdated
from penstock.query.fingerprint import fingerprint
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.pins import FusionPins
from penstock.query.types import GroupBy, Hit, SearchRequest

# Hashing this much takes the event loop a millisecond.
_MAX_BYTES_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """The hits of one page.

    Attributes:
        ids: of their entries.
        next_cursor: of the page after it; None: it is the last one.
        changed: whether the pages before would be others now.
        notice: why it is the last one although there are more hits; None: there are none, or it is not.
    """

    ids: frozenset[str]
    next_cursor: str | None
    changed: bool
    notice: str | None


@dataclass(frozen=True, slots=True)
class PageStart:
    """The place in the hits of a search at which a page begins.

    Attributes:
        cursor: of the page; for the first one a new one.
        max_hits: of all pages together.
    """

    cursor: Cursor
    max_hits: int

    @property
    def is_first(self) -> bool:
        """Returns whether no page came before."""
        return not self.cursor.pins.noted

    def end(self, limit: int) -> int:
        """Returns the number of hits up to the end of a page of `limit` hits."""
        return limit if self.is_first else min(len(self.cursor.shown) + limit, self.max_hits)

    def page(self, hits: Sequence[Hit], *, group_by: GroupBy, limit: int, more: bool) -> Page:
        """Returns the page that begins here.

        Args:
            hits: in order, from the first one of the search to at least the end of this page, if there are as many.
            group_by: of the search.
            limit: of the page.
            more: whether a deeper search may add further hits.
        """
        end, earlier = self.end(limit), self.cursor.shown
        digests = [_digest(hit, group_by) for hit in hits]
        shown = frozenset(earlier)
        places = [place for place, digest in enumerate(digests) if digest not in shown][: end - len(earlier)]
        cursor = Cursor(
            self.cursor.request,
            self.cursor.plane,
            (*earlier, *(digests[place] for place in places)),
            self.cursor.pins,
            self.cursor.index_version,
        )
        further = len(hits) > end or more
        at_end = len(cursor.shown) >= self.max_hits
        goes_on = further and bool(places) and not at_end
        return Page(
            ids=frozenset(hits[place].entry.id for place in places),
            next_cursor=encode_cursor(cursor) if goes_on else None,
            changed=shown != frozenset(digests[: len(earlier)]),
            notice=self._last_notice() if further and at_end else None,
        )

    def _last_notice(self) -> str:
        return (
            f"Pages end after {self.max_hits:,} hits (query.max_paged_hits), and there may be more: a filter or more "
            "words narrow the search."
        )


class Pages:
    """Opens the pages of searches.

    Args:
        plane: returns 8 bytes that identify the models, the calibration and the adapters, on which pinned values
            depend.
        max_hits: that the pages of one search have together.
        index_version: that is searched.
    """

    def __init__(self, plane: Callable[[], bytes], max_hits: int, index_version: int) -> None:
        self._plane = plane
        self._max_hits = max_hits
        self._index_version = index_version

    async def open(self, request: SearchRequest) -> PageStart:
        """Returns where the page of a request begins.

        Raises:
            QueryError: 400 for a cursor that is damaged, or belongs to another request or another version of the
                index, 410 for one that another Penstock or a plane of other models made.
        """
        size = sum(len(data) for data in (request.image, request.audio) if data)
        of_request = (
            fingerprint(request) if size <= _MAX_BYTES_AT_ONCE else await asyncio.to_thread(fingerprint, request)
        )
        of_request, plane = of_request[:DIGEST_BYTES], self._plane()
        if request.cursor is None:
            first = Cursor(of_request, plane, (), FusionPins(), self._index_version)
            return PageStart(first, self._max_hits)
        cursor = decode_cursor(request.cursor, max_hits=self._max_hits)
        if cursor.request != of_request:
            raise QueryError(
                "cursor belongs to another request: it continues the search that answered it, with the same query, "
                "filter, tenant and options; only limit, deadline_ms and explain may differ",
                field="/cursor",
            )
        if cursor.index_version != self._index_version:
            raise QueryError(
                f"cursor belongs to version {cursor.index_version} of the index, and this answer is of version "
                f"{self._index_version}: leave it out to begin with the first page",
                field="/cursor",
            )
        if cursor.plane != plane:
            raise outdated("a query plane with other models, another calibration or other adapters")
        return PageStart(cursor, self._max_hits)


def plane_digest(profile: Profile, calibration: Calibration | None) -> bytes:
    """Returns 8 bytes that are equal for replicas with the same models and the same calibration."""
    return hashlib.blake2b(repr((profile, calibration)).encode(), digest_size=DIGEST_BYTES).digest()


def adapted_digest(plane: bytes, adapters: str) -> bytes:
    """Returns the digest of a plane with adapters: 8 bytes; without adapters that of the plane.

    Args:
        plane: 8 bytes.
        adapters: what identifies them; empty: there are none.
    """
    if not adapters:
        return plane
    return hashlib.blake2b(plane + adapters.encode(), digest_size=DIGEST_BYTES).digest()


def _digest(hit: Hit, group_by: GroupBy) -> bytes:
    """Returns what identifies a hit in a cursor: 6 bytes of the id of its best entry, or of its asset."""
    identity = hit.entry.asset.id if group_by is GroupBy.ASSET else hit.entry.id
    return bytes.fromhex(identity[: 2 * HIT_BYTES])
