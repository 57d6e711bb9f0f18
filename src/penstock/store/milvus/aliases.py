"""Lists physical collections, and serves one of them behind each alias."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import ConfigError, PenstockError
from penstock.store.milvus.client import Connection
from penstock.store.names import ASSET, PhysicalCollection, parse_name


class Aliases:
    """The physical collections of each alias, and the one that it serves (`store.aliases.AliasTable`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def collections(self) -> Sequence[PhysicalCollection]:
        """Returns all physical collections, by alias, version, then model."""
        names = self._connection.call(
            "listing collections", lambda client: client.list_collections(timeout=self._connection.timeout_s)
        )
        return sorted(parsed for name in names if (parsed := parse_name(name)))

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        """Returns the physical collections that could serve this alias, by version, then model."""
        return [physical for physical in self.collections() if physical.alias == alias]

    def served(self, alias: str) -> PhysicalCollection | None:
        """Returns the physical collection behind an alias; None if there is no such alias.

        Raises:
            ConfigError: the alias is not Penstock's.
        """
        # Not describe_alias: 2.3.5 does not find an alias of any database but the default one.
        described = self._connection.call_or_none(
            f"describing alias {alias}",
            lambda client: client.describe_collection(alias, timeout=self._connection.timeout_s),
        )
        if described is None:
            return None
        physical = parse_name(described["collection_name"])
        if physical is None or physical.alias != alias:
            raise ConfigError(
                f"alias {alias} of the store serves {described['collection_name']}, which is not Penstock's: "
                "set store.database to another one"
            )
        return physical

    def resolve(self, alias: str, version: int) -> PhysicalCollection:
        """Returns the physical collection of this alias and version. If two models have one, the served one wins.

        Raises:
            ConfigError: there is none.
        """
        candidates = [physical for physical in self.candidates(alias) if physical.version == version]
        if not candidates:
            raise ConfigError(
                f"the store has no collection {alias} of version {version}: `penstock ingest` creates it; check "
                "store.uri, store.database and store.version"
            )
        served = self.served(alias)
        return served if served in candidates else candidates[-1]

    def switch(self, alias: str, to: PhysicalCollection) -> PhysicalCollection | None:
        """Lets the alias serve `to`, atomically: a query sees either the old collection or the new one.

        Returns:
            the collection that was served before, to switch back to.

        Raises:
            ConfigError: there is no such collection, or it is of another alias.
        """
        candidates = self.candidates(alias)
        if to not in candidates:
            names = ", ".join(map(str, candidates)) or "none"
            raise ConfigError(f"{alias} cannot be served by {to}: there is no such collection. There are: {names}")
        before = self.served(alias)
        self.move(alias, before, to)
        return before

    def redirect(self, alias: str, to: PhysicalCollection) -> None:
        """Does what `switch` does in one request, if both exist; the other facts are read only if the store refuses.

        Raises:
            ConfigError: there is no such collection, or it is of another alias.
        """
        if to.alias != alias:
            raise ConfigError(f"{alias} cannot be served by {to}, which is of another alias")
        try:
            self._alter(alias, to)
        except PenstockError:  # no such alias, no such collection, or no answer: `switch` says which
            self.switch(alias, to)

    def move(self, alias: str, before: PhysicalCollection | None, to: PhysicalCollection) -> None:
        """Does what `switch` does in one request, where the caller has just read the other facts."""
        if before is None:
            timeout_s = self._connection.timeout_s
            self._connection.call(
                f"creating alias {alias}", lambda client: client.create_alias(str(to), alias, timeout=timeout_s)
            )
        elif before != to:
            self._alter(alias, to)

    def remove(self, physical: PhysicalCollection) -> None:
        """Removes a collection and all its rows, and its alias if that serves it; no error if there is none.

        Raises:
            ConfigError: its version is the one that is served.
        """
        served = self.served(ASSET)
        if served is not None and served.version == physical.version:
            raise ConfigError(f"{physical} is of the version that is served, and stays")
        if self.served(physical.alias) == physical:
            self.drop(physical.alias)
        self._connection.call(
            f"removing collection {physical}",
            lambda client: client.drop_collection(str(physical), timeout=self._connection.timeout_s),
        )

    def drop(self, alias: str) -> None:
        """Removes an alias, and no collection; no error if there is none."""
        self._connection.call_or_none(
            f"dropping alias {alias}", lambda client: client.drop_alias(alias, timeout=self._connection.timeout_s)
        )

    def _alter(self, alias: str, to: PhysicalCollection) -> None:
        timeout_s = self._connection.timeout_s
        self._connection.call(
            f"switching alias {alias}", lambda client: client.alter_alias(str(to), alias, timeout=timeout_s)
        )
