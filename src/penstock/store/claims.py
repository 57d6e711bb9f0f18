"""Whose turn it is with an asset, where several threads write."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Claims:
    """Assets that are being worked on, each by one thread at a time.

    A thread claims all that it needs at once and holds nothing while it waits, so that none waits for ever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[str] = set()

    @contextmanager
    def of(self, asset_ids: Iterable[str]) -> Iterator[None]:
        """Around what is done with these assets: begins once nobody else works on any of them."""
        wanted = frozenset(asset_ids)
        with self._changed:
            while not self._taken.isdisjoint(wanted):
                self._wait()
            self._taken |= wanted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()

    def _wait(self) -> None:
        self._changed.wait()
