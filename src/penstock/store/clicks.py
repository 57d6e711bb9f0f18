"""The click memory: choices by the vectors of their questions, beside the index and not part of it.

A choice names an entry; what that entry is now, and who may read it, the index says. So a search reads the entries of
what it recalls (`query.clicks`), and a choice never shows more than its asset does.

`MemoryClicks` is the double and `store.milvus.clicks` the real table; both pass tests/store/test_clicks.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from penstock.records import Choice, Float32, Recalled
from penstock.records.events import digest_of


class ClickTable(Protocol):
    """Holds the newest choice of each voter, question and asset, for one encoder of questions.

    Raises from every method:
        UnavailableError: the server does not answer.
        PermanentError: it refuses the request permanently.
    """

    def ensure(self, dim: int) -> None:
        """Creates the table, if it is missing, for vectors of this dimension. Others take a missing one for empty."""

    def put(self, choices: Sequence[Choice]) -> None:
        """Writes choices by `Choice.id`, replacing others. Acknowledged when it returns."""

    def of_ids(self, ids: Sequence[str]) -> Mapping[str, Choice]:
        """Returns choices by `Choice.id`, without vectors, strongly consistent; absent ones are left out."""

    def drop(self, ids: Sequence[str]) -> None:
        """Removes choices; absent ones are no error."""

    def drop_assets(self, asset_ids: Collection[str]) -> None:
        """Removes the choices of assets, by `AssetRef.id`."""

    def drop_tenant(self, tenant: str, key: str | None = None) -> int:
        """Removes the choices of a tenant, or of its assets of one key, and returns how many there were."""

    def recall(self, vector: Float32, tenant: str, *, limit: int, timeout_s: float) -> Sequence[Recalled]:
        """Returns the choices of a tenant whose questions are closest, closest first, at the consistency of searches.

        Args:
            vector: float32[dim], L2-normalised.
            tenant: whose choices.
            limit: maximum number.
            timeout_s: after this time `UnavailableError` is raised.
        """

    def scan(self, *, with_vectors: bool = False, batch: int = 1000) -> Iterator[Sequence[Choice]]:
        """Yields all choices by ascending id, in bounded memory. Without vectors these are empty arrays."""

    def close(self) -> None:
        """Ends the connection."""


NO_VECTOR: Float32 = np.zeros(0, np.float32)


_TABLE = "clicked__q"


def table_name(encoder: str) -> str:
    """Returns the name of the table for an encoder of questions. All versions of the index share it.

    A choice names its asset and entry, whose ids are the same in every version.
    """
    return f"{_TABLE}{digest_of(encoder)[:15]}"


def is_table(name: str) -> bool:
    """Returns whether a collection is a table of choices."""
    return name.startswith(_TABLE)


class MemoryClicks(ClickTable):
    """The table of a single process. Safe to call from several threads.

    Args:
        before_call: called before each call, and may raise what a server that is down would.
    """

    def __init__(self, before_call: Callable[[], None] = lambda: None) -> None:
        self._before_call = before_call
        self._choices: dict[str, Choice] = {}
        self._dim: int | None = None
        self._lock = threading.Lock()

    def ensure(self, dim: int) -> None:
        self._before_call()
        self._dim = dim

    def put(self, choices: Sequence[Choice]) -> None:
        self._before_call()
        with self._lock:
            self._choices.update((choice.id, choice) for choice in choices)

    def of_ids(self, ids: Sequence[str]) -> Mapping[str, Choice]:
        self._before_call()
        with self._lock:
            return {id_: _bare(self._choices[id_]) for id_ in ids if id_ in self._choices}

    def drop(self, ids: Sequence[str]) -> None:
        self._before_call()
        with self._lock:
            for id_ in ids:
                self._choices.pop(id_, None)

    def drop_assets(self, asset_ids: Collection[str]) -> None:
        self._before_call()
        with self._lock:
            self._remove(lambda choice: choice.asset.id in asset_ids)

    def drop_tenant(self, tenant: str, key: str | None = None) -> int:
        self._before_call()
        with self._lock:
            return self._remove(lambda choice: choice.asset.tenant == tenant and key in (None, choice.asset.key))

    def recall(self, vector: Float32, tenant: str, *, limit: int, timeout_s: float) -> Sequence[Recalled]:
        self._before_call()
        with self._lock:
            own = [choice for choice in self._choices.values() if choice.asset.tenant == tenant]
        if not own:
            return []
        cosines = np.stack([choice.vector for choice in own]) @ vector
        best = np.argsort(-cosines, kind="stable")[:limit].tolist()
        return [Recalled(_bare(own[place]), float(cosines[place])) for place in best]

    def scan(self, *, with_vectors: bool = False, batch: int = 1000) -> Iterator[Sequence[Choice]]:
        self._before_call()
        with self._lock:
            ordered = [choice for _, choice in sorted(self._choices.items())]
        for start in range(0, len(ordered), batch):
            page = ordered[start : start + batch]
            yield page if with_vectors else [_bare(choice) for choice in page]

    def close(self) -> None:
        return

    def _remove(self, is_removed: Callable[[Choice], bool]) -> int:
        removed = [id_ for id_, choice in self._choices.items() if is_removed(choice)]
        for id_ in removed:
            del self._choices[id_]
        return len(removed)


def _bare(choice: Choice) -> Choice:
    return replace(choice, vector=NO_VECTOR)
