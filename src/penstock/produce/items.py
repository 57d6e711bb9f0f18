"""Defines the items that sources yield: messages and refusals, each with the place where its source continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from penstock.broker.base import Message

JsonObject: TypeAlias = Mapping[str, Any]
Cursor: TypeAlias = Mapping[str, Any]
"""A place in a source, as JSON. Only the source knows what it means."""


@dataclass(frozen=True, slots=True)
class SourceMark:
    """The place in a source that is reached once an item and all items before it are settled.

    Attributes:
        source: the source, as the command line names it.
        cursor: where the source continues.
        done: how much of the source lies before the cursor, in the unit of its total.
    """

    source: str
    cursor: Cursor
    done: int


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to send, with the label that reports use for its source: a path, or a file and line."""

    label: str
    message: Message
    mark: SourceMark | None = field(default=None, compare=False)

    @property
    def size_bytes(self) -> int:
        """The size of key and value together."""
        return len(self.message.key or b"") + len(self.message.value or b"")


@dataclass(frozen=True, slots=True)
class RefusedSource:
    """A source that was not sent or not acknowledged, with the reason."""

    label: str
    reason: str
    mark: SourceMark | None = field(default=None, compare=False, repr=False)


ProduceItem: TypeAlias = OutgoingMessage | RefusedSource

MAX_NAMED = 50
"""The most refusals that a report or a file of states names."""


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """The number of sources that were refused, or not acknowledged, and the first of them.

    Attributes:
        count: of all.
        first: at most `MAX_NAMED`.
    """

    count: int = 0
    first: tuple[RefusedSource, ...] = ()

    def plus(self, sources: Sequence[RefusedSource]) -> RefusalCount:
        """Returns the count with more sources."""
        return RefusalCount(self.count + len(sources), (*self.first, *sources[: MAX_NAMED - len(self.first)]))


@dataclass(frozen=True, slots=True)
class ProduceOptions:
    """Options that apply to all items.

    Attributes:
        tenant: the owner of the assets; None: the configured tenant.
        key: the key of a single file, instead of its path.
        topic: the topic of all events; None: the topic of the modality that is detected in the bytes.
        attributes: added to the attributes of each item; they win over the item's own.
        claim_check: send addresses instead of bytes.
        acl: labels of the items that name none; None: the default of those who read them.
        columns: of tables, the column of each field whose column has another name.
        attribute_columns: columns of tables that become attributes.
        vector_encoder: the fingerprint of the encoder that the vectors in the field `vector` are of.
    """

    tenant: str | None = None
    key: str | None = None
    topic: str | None = None
    attributes: JsonObject | None = None
    claim_check: bool = False
    acl: Sequence[str] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    attribute_columns: Sequence[str] = ()
    vector_encoder: str | None = None
