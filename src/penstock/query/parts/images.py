"""Reads the images of indexed entries, from the best place that still has them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from penstock.assets import MissingAssetError, sha256_of
from penstock.errors import BadInputError, QueryError, TransientError, UnavailableError
from penstock.records import Collection, Entry

logger = logging.getLogger(__name__)

POINTER = "/frame/id"
STORED_VECTOR = "stored vector"  # of the whole image, as it was encoded when it was indexed
STORED_MEDIA = "stored media"
CLAIM_CHECK = "claim check"
THUMBNAIL = "thumbnail"


class MediaReader(Protocol):
    """A store of media by hash, such as `assets.AssetStore`."""

    def read(self, sha256: str) -> bytes:
        """Returns the bytes. Raises MissingAssetError if they are absent, UnavailableError if the store is down."""


class ClaimChecks(Protocol):
    """Reads media by their address, such as `media.claim_check.ClaimCheckReader`."""

    def read(self, uri: str, *, tenant: str, deadline_s: float) -> bytes:
        """Returns the bytes. Raises BadInputError if another attempt cannot help, TransientError if it may."""


@dataclass(frozen=True, slots=True)
class EntryImage:
    """An encoded image, and where it comes from."""

    data: bytes = field(repr=False)
    source: str


class EntryImageReader:
    """Reads images of entries. Safe to call from several threads.

    An image is read as it was indexed: from the asset store, or from the address of its claim check. Of a frame or page
    only the thumbnail is kept: reading the video again would take seconds, and another frame of its shot may show a
    thing at another place.

    Args:
        media: stored by hash.
        claim_checks: reads the others; None: they cannot be read.
        clock: of `claim_checks`, monotonic seconds.
    """

    def __init__(
        self, media: MediaReader, claim_checks: ClaimChecks | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._media = media
        self._claim_checks = claim_checks
        self._clock = clock

    def read(self, entry: Entry, timeout_s: float) -> EntryImage:
        """Returns the encoded image of an entry.

        Raises:
            QueryError: 422, the entry has no image, or it is not kept any more.
            UnavailableError: its store does not answer.
        """
        uri = entry.thumbnail or entry.uri
        try:
            if (sha256 := sha256_of(uri)) is not None:
                source = THUMBNAIL if entry.thumbnail else STORED_MEDIA
                return EntryImage(self._media.read(sha256), source)
            if self._claim_checks is not None and entry.collection is Collection.IMAGE:
                data = self._claim_checks.read(uri, tenant=entry.asset.tenant, deadline_s=self._clock() + timeout_s)
                return EntryImage(data, CLAIM_CHECK)
        except (MissingAssetError, BadInputError) as exc:
            logger.info("the image of entry %s cannot be read: %s", entry.id, exc)
        except TransientError as exc:
            raise UnavailableError(f"the image of entry {entry.id} cannot be read now: {exc}") from exc
        raise QueryError(
            f"the image of entry {entry.id} is not kept any more: leave region out, or send it as image",
            status=422,
            field=POINTER,
        )
