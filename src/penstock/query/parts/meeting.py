"""Checks that the parts of a query meet: in one space where the request has weights, and anywhere at all."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import QueryError
from penstock.query.parts.base import QueryPart
from penstock.query.parts.compose import parts_of
from penstock.query.types import Query


def check_meeting(query: Query, searched: Sequence[frozenset[QueryPart]]) -> tuple[str, ...]:
    """Returns sentences on the parts that no channel is searched for.

    Args:
        query: to be searched for.
        searched: the parts of each channel query.

    Raises:
        QueryError: 400, the request has weights, and no channel takes all parts to search by; or no channel compares
            with what is to be avoided.
    """
    requested = parts_of(query) - {QueryPart.NOT}
    taken = frozenset[QueryPart]().union(*searched)
    if searched and QueryPart.NOT in parts_of(query) - taken:
        raise QueryError("nothing that is searched compares with what `not` avoids", field="/not")
    if searched and query.parts.demanded and not any(requested <= parts for parts in searched):
        most = max(searched, key=lambda parts: len(parts & requested))
        apart = min(requested - most)
        raise QueryError(
            f"{' and '.join(sorted(requested))} have no common space in what is searched: leave compose out to search "
            "for each by itself, or search images",
            field=f"/compose/{apart}",
        )
    left_out = sorted(requested - taken)
    return tuple(f"The part {part} was left out: nothing that is searched compares with it." for part in left_out)
