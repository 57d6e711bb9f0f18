"""Reads stored media by the hash of their content."""

from __future__ import annotations

import re
from typing import Protocol

from penstock.assets import MissingAssetError
from penstock.errors import QueryError
from penstock.query.executor import BoundedExecutor

_SHA256 = re.compile(r"[0-9a-f]{64}")


class AssetReader(Protocol):
    """A store of media by hash, such as `assets.AssetStore`."""

    def read(self, sha256: str) -> bytes:
        """Returns the bytes. Raises MissingAssetError if they are absent, UnavailableError if the store is down."""


class MediaService:
    """The use case behind `/v1/media/{sha256}`.

    Args:
        assets: the store of the media.
        executor: runs its calls, among those of the searches.
        timeout_s: maximum duration of a read, seconds.
    """

    def __init__(self, assets: AssetReader, executor: BoundedExecutor, *, timeout_s: float) -> None:
        self._assets = assets
        self._executor = executor
        self._timeout_s = timeout_s

    async def read(self, sha256: str) -> bytes:
        """Returns media by the hash of their content.

        The media of all tenants share one store, under names of 256 bits that cannot be guessed: a client that knows
        the name has received a hit that refers to it, or has the content itself.

        Raises:
            QueryError: 404, the media are absent or the name is not a hash.
            UnavailableError: the asset store does not answer.
        """
        if not _SHA256.fullmatch(sha256):
            raise QueryError("media are named by 64 hexadecimal digits in lower case", status=404)
        try:
            return await self._executor.run(lambda: self._assets.read(sha256), timeout_s=self._timeout_s)
        except MissingAssetError as exc:
            raise QueryError(
                f"media {sha256} are not in the asset store; they may have been deleted", status=404
            ) from exc
