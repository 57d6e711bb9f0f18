"""Whose turn it is with an asset, where several threads write."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile


class Claims:
    """Assets that are being worked on, each by one thread at a time, in the order in which they came.

    A thread claims all that it needs at once and holds nothing while it waits; it waits for those before it that want
    any of the same assets, whether they have them yet or not, and for nobody else. So none waits for ever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._claims: list[frozenset[str]] = []  # of those who work and of those who wait, in the order of coming

    @contextmanager
    def of(self, asset_ids: Iterable[str]) -> Iterator[None]:
        """Around what is done with these assets: begins once nobody else works on any of them."""
        wanted = frozenset(asset_ids)
        with self._changed:
            self._claims.append(wanted)
        try:
            with self._changed:
                while any(not one.isdisjoint(wanted) for one in takewhile(lambda one: one is not wanted, self._claims)):
                    self._wait()
            yield
        finally:
            with self._changed:
                self._claims = [one for one in self._claims if one is not wanted]
                self._changed.notify_all()

    def _wait(self) -> None:
        self._changed.wait()
