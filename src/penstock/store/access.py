"""Defines what an access allows: `allows` decides for one entry, `access_expression` writes it for Milvus.

Labels are a column of arrays, or of text where a backend is slow at arrays: then `|tenant|group:a|`, so that `LIKE` for
`%|tenant|%` finds each label and no part of one.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.records import Access, Entry, is_label
from penstock.store.filter_semantics import literal

ACL = "acl"
"""The name of the column of labels."""

# Stands for the underscore in text: `LIKE` takes that for any character. No label has a tilde.
_UNDERSCORE = "~"


def allows(access: Access, entry: Entry) -> bool:
    """Returns whether an access allows an entry to be read."""
    return entry.asset.tenant == access.tenant and access.allows(entry.acl)


def access_expression(access: Access, *, arrays: bool) -> str:
    """Returns the Milvus boolean expression that every read for a caller begins with.

    Labels of the caller that no event can have are left out, as credentials may bring any text.

    Args:
        access: what the caller may read.
        arrays: whether the column of labels has arrays; else text.
    """
    of_tenant = f"tenant == {literal(access.tenant)}"
    if access.labels is None:
        return of_tenant
    labels = sorted(label for label in access.labels if is_label(label))
    if not labels:
        return f'{of_tenant} and id == ""'  # which no row has
    if arrays:
        return f"{of_tenant} and array_contains_any({ACL}, {literal(tuple(labels))})"
    marks = " or ".join(f"{ACL} like {literal(f'%|{_plain(label)}|%')}" for label in labels)
    return f"{of_tenant} and ({marks})"


def acl_text(acl: Sequence[str]) -> str:
    """Returns labels as text."""
    return "|" + "".join(f"{_plain(label)}|" for label in acl) if acl else ""


def parse_acl(value: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the labels of a column of arrays or of text."""
    if isinstance(value, str):
        return tuple(label.replace(_UNDERSCORE, "_") for label in value.split("|") if label)
    return tuple(value)


def _plain(label: str) -> str:
    return label.replace("_", _UNDERSCORE)
