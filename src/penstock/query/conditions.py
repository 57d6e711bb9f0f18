"""The conditions that a query sets on the entries of each collection."""

from __future__ import annotations

from penstock.query.types import Query
from penstock.records import Collection, Modality
from penstock.store.filters import Combination, Comparison, Filter


def is_filtered(query: Query) -> bool:
    """Returns whether a part of the searched collections is left out."""
    return query.where is not None or query.passages_of is not None


def where_in(query: Query, collection: Collection) -> Filter | None:
    """Returns the condition on entries of a collection; None: all of them are searched."""
    if query.passages_of is None or collection is not Collection.TEXT:
        return query.where
    own = Comparison("page", "gt" if query.passages_of is Modality.DOCUMENT else "eq", 0)
    return own if query.where is None else Combination("and", (query.where, own))
