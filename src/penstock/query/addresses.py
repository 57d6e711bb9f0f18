"""Leaves out the addresses of media that readers are not to see, such as those of internal hosts and folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from penstock.query.types import Hit
from penstock.records import Entry

Shows: TypeAlias = Callable[[str, str], bool]
"""Returns whether readers get an address of a tenant's media; given the address and the tenant."""


def show_all(_uri: str, _tenant: str) -> bool:
    """Shows every address, where no rules of claim checks are known."""
    return True


def with_shown_addresses(hits: Sequence[Hit], shows: Shows) -> list[Hit]:
    """Returns hits whose address is empty where readers do not get it."""
    return [replace(hit, entry=shown_entry(hit.entry, shows)) for hit in hits]


def shown_entry(entry: Entry, shows: Shows) -> Entry:
    """Returns an entry with an empty address, if readers do not get it."""
    return entry if shows(entry.uri, entry.asset.tenant) else replace(entry, uri="")
