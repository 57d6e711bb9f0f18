"""Defines the part of the index that one request may read: a tenant, and labels of its entries."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

DEFAULT_LABEL = "tenant"
"""The label of an event without `acl`: every principal of its tenant may read it."""

DEFAULT_ACL = (DEFAULT_LABEL,)
MAX_LABELS = 64  # of an event
MAX_LABEL_CHARS = 128

_LABEL = re.compile(rf"[A-Za-z0-9._:@/-]{{1,{MAX_LABEL_CHARS}}}")


@dataclass(frozen=True, slots=True)
class Access:
    """The entries that one request may read. Every search of the store carries it.

    Attributes:
        tenant: only entries of this tenant.
        labels: only entries that carry at least one of these; empty: none. None: all entries of the tenant, for
            commands of operators and where `auth.mode` is none.
    """

    tenant: str
    labels: frozenset[str] | None

    @classmethod
    def to_all_of(cls, tenant: str) -> Self:
        """Returns access to all entries of a tenant, whatever their labels."""
        return cls(tenant, None)

    def allows(self, labels: Collection[str]) -> bool:
        """Returns whether an entry of the tenant that carries these labels may be read."""
        return self.labels is None or not self.labels.isdisjoint(labels)


def is_label(text: str) -> bool:
    """Returns whether a text is a label: 1 to 128 letters, digits and `. _ : @ / -`."""
    return _LABEL.fullmatch(text) is not None


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns labels in the form in which records carry them: each once, in ascending order."""
    return tuple(sorted(set(labels)))
