"""Defines the interface of a source, and how an item of one becomes a message or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from penstock.broker.base import Message
from penstock.errors import PenstockError, TransientError, first_line
from penstock.produce.items import Cursor, OutgoingMessage, ProduceItem, RefusedSource, SourceMark


class MediaSource(Protocol):
    """Media in a fixed order, which can be read from any place on.

    Attributes:
        name: as the command line has it, and unique there.
        unit: what `total` and `SourceMark.done` count.
    """

    name: str
    unit: str

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """Yields the items behind a cursor, in order; None: all. The last one of each place has its mark.

        Raises:
            UsageError: it is no such source.
            UnavailableError: its server does not answer. What was yielded before can be sent.
        """

    def total(self) -> int | None:
        """Returns the size of the whole source in its unit; None if that is not known. May take long.

        Runs in a thread of its own, beside `items`. Raises as `items` does.
        """


def item_of(label: str, make: Callable[[], Message], mark: SourceMark | None) -> ProduceItem:
    """Returns the message that a function makes, or why it is refused: the others of the source are sent.

    Raises:
        TransientError: a server did not answer, which says nothing about the item.
    """
    try:
        return OutgoingMessage(label, make(), mark)
    except TransientError:
        raise
    except Exception as exc:  # values of tables, JSON and archives are of any type and size
        return RefusedSource(label, reason_of(exc), mark)


def reason_of(exc: Exception) -> str:
    """Returns why an item is refused: the message of Penstock's errors, else what Python says of its value."""
    return str(exc) if isinstance(exc, PenstockError) else f"has a value that cannot be sent: {first_line(exc)}"
