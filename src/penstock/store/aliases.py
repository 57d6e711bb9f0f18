"""The interface to the aliases of a store: which physical collections there are, and which one each alias serves.

A re-index fills collections of a new version and then switches the aliases, which can be undone in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock.store.names import PhysicalCollection


class AliasTable(Protocol):
    """Reads and switches aliases. Each call is atomic; several aliases are never switched together."""

    def collections(self) -> Sequence[PhysicalCollection]:
        """Returns all physical collections, by alias, version, then model."""

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        """Returns the physical collections that could serve this alias, by version, then model."""

    def served(self, alias: str) -> PhysicalCollection | None:
        """Returns the physical collection behind an alias; None if there is no such alias."""

    def switch(self, alias: str, to: PhysicalCollection) -> PhysicalCollection | None:
        """Lets the alias serve `to`, and creates it if it does not exist.

        Returns:
            the collection that was served before.

        Raises:
            ConfigError: there is no such collection, or it is of another alias.
        """

    def redirect(self, alias: str, to: PhysicalCollection) -> None:
        """Does what `switch` does in one request, if both exist; the other facts are read only if the store refuses.

        Raises:
            ConfigError: there is no such collection, or it is of another alias.
        """

    def move(self, alias: str, before: PhysicalCollection | None, to: PhysicalCollection) -> None:
        """Does what `switch` does in one request, where the caller has just read the other facts.

        Args:
            alias: to be moved.
            before: the collection that it serves, as `served` returned it.
            to: one of `collections`, of this alias.
        """

    def remove(self, physical: PhysicalCollection) -> None:
        """Removes a collection and all its rows, and its alias if that serves it; no error if there is none.

        Raises:
            ConfigError: its version is the one that is served.
        """

    def drop(self, alias: str) -> None:
        """Removes an alias, and no collection; no error if there is none."""


class VersionedStore(Protocol):
    """A store that may hold several versions of the index."""

    @property
    def aliases(self) -> AliasTable:
        """The aliases, which say which version is served."""
