"""The aliases of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping, Sequence
from typing import Any

from penstock.errors import ConfigError
from penstock.store.names import ASSET, PhysicalCollection, parse_name


class MemoryAliases:
    """Aliases in memory (`store.aliases.AliasTable`). Safe to call from several threads.

    Args:
        tables: the physical collections by name, shared with the store.
        served: the collection of each alias, shared with the store.
        lock: of the store.
    """

    def __init__(
        self, tables: MutableMapping[str, Any], served: MutableMapping[str, PhysicalCollection], lock: threading.RLock
    ) -> None:
        self._tables = tables
        self._served = served
        self._lock = lock

    def collections(self) -> Sequence[PhysicalCollection]:
        """See `AliasTable.collections`."""
        with self._lock:
            parsed = [parse_name(name) for name in self._tables]
        return sorted(name for name in parsed if name is not None)

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        """See `AliasTable.candidates`."""
        return [name for name in self.collections() if name.alias == alias]

    def served(self, alias: str) -> PhysicalCollection | None:
        """See `AliasTable.served`."""
        with self._lock:
            return self._served.get(alias)

    def switch(self, alias: str, to: PhysicalCollection) -> PhysicalCollection | None:
        """See `AliasTable.switch`."""
        with self._lock:
            if to not in self.candidates(alias):
                raise ConfigError(f"{alias} cannot be served by {to}: there is no such collection")
            before = self._served.get(alias)
            self.move(alias, before, to)
            return before

    def redirect(self, alias: str, to: PhysicalCollection) -> None:
        """See `AliasTable.redirect`."""
        self.switch(alias, to)

    def move(self, alias: str, before: PhysicalCollection | None, to: PhysicalCollection) -> None:
        """See `AliasTable.move`."""
        with self._lock:
            self._served[alias] = to

    def remove(self, physical: PhysicalCollection) -> None:
        """See `AliasTable.remove`."""
        with self._lock:
            served = self._served.get(ASSET)
            if served is not None and served.version == physical.version:
                raise ConfigError(f"{physical} is of the version that is served, and stays")
            if self._served.get(physical.alias) == physical:
                del self._served[physical.alias]
            self._tables.pop(str(physical), None)

    def drop(self, alias: str) -> None:
        """See `AliasTable.drop`."""
        with self._lock:
            self._served.pop(alias, None)
