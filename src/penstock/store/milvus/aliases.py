"""Physical collections and the aliases they are served through. A reindex fills new ones, then switches; so does the
way back.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import ConfigError
from penstock.store.milvus.client import Connection
from penstock.store.names import PhysicalCollection, parse_name


class Aliases:
    """What versions of a collection there are, and which one is served."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        """The physical collections that could serve this alias, by version, then model."""
        names = self._connection.call(
            "listing collections", lambda client: client.list_collections(timeout=self._connection.timeout_s)
        )
        return sorted(found for name in names if (found := parse_name(name)) and found.alias == alias)

    def served(self, alias: str) -> PhysicalCollection | None:
        """The physical collection behind an alias; None if there is no such alias.

        Raises:
            ConfigError: the alias is not Penstock's.
        """
        # Not describe_alias: 2.3.5 does not find an alias of any database but the default one.
        found = self._connection.call_or_none(
            f"asking what serves {alias}",
            lambda client: client.describe_collection(alias, timeout=self._connection.timeout_s),
        )
        if found is None:
            return None
        physical = parse_name(found["collection_name"])
        if physical is None or physical.alias != alias:
            raise ConfigError(
                f"alias {alias} of the store serves {found['collection_name']}, which is not Penstock's: "
                "set store.database to another one"
            )
        return physical

    def resolve(self, alias: str, version: int) -> PhysicalCollection:
        """The physical collection of this alias and version. Of two, which another model makes, the one that is served.

        Raises:
            ConfigError: there is none.
        """
        found = [each for each in self.candidates(alias) if each.version == version]
        if not found:
            raise ConfigError(
                f"the store has no collection {alias} of version {version}: `penstock ingest` makes it; check "
                "store.uri, store.database and store.version"
            )
        served = self.served(alias)
        return served if served in found else found[-1]

    def switch(self, alias: str, to: PhysicalCollection) -> PhysicalCollection | None:
        """Serves `to` from now on, in one step: a query sees the old one or the new one.

        Returns:
            what was served before, to switch back to.

        Raises:
            ConfigError: there is no such collection, or it is of another alias.
        """
        there = self.candidates(alias)
        if to not in there:
            names = ", ".join(map(str, there)) or "none"
            raise ConfigError(f"{alias} cannot be served by {to}: there is no such collection. There are: {names}")
        before = self.served(alias)
        timeout_s = self._connection.timeout_s
        if before is None:
            self._connection.call(
                f"creating alias {alias}", lambda client: client.create_alias(str(to), alias, timeout=timeout_s)
            )
        elif before != to:
            self._connection.call(
                f"switching alias {alias}", lambda client: client.alter_alias(str(to), alias, timeout=timeout_s)
            )
        return before
