"""The dashboards, one module each."""

from __future__ import annotations

from collections.abc import Sequence

from ops.boards.ingest import ingest_board
from ops.boards.outcomes import outcomes_board
from ops.boards.overview import overview_board
from ops.boards.pools import pools_board
from ops.boards.query import query_board
from ops.panels import Board
from ops.slos import Objectives


def every_board(objectives: Objectives) -> Sequence[Board]:
    """Returns all dashboards, in the order of their links."""
    return (overview_board(objectives), ingest_board(), query_board(), pools_board(), outcomes_board())
