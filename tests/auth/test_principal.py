"""Principals: permissions, tenants and what they may read."""

from __future__ import annotations

from penstock.auth import ANONYMOUS, Permission, Principal
from penstock.records import Access


def principal(**changes: object) -> Principal:
    """Returns a principal that searches tenant acme."""
    values: dict[str, object] = {
        "subject": "key:ci",
        "tenants": frozenset({"acme"}),
        "permissions": frozenset({Permission.SEARCH}),
        "labels": frozenset({"tenant"}),
    }
    return Principal(**values | changes)  # type: ignore[arg-type]


def test_an_administrator_may_do_everything() -> None:
    assert principal().may(Permission.SEARCH)
    assert not principal().may(Permission.PURGE)
    assert principal(permissions=frozenset({Permission.ADMIN})).may(Permission.PURGE)


def test_only_its_own_tenants_are_read() -> None:
    assert principal().reads("acme")
    assert not principal().reads("umbrella")
    assert not principal(tenants=frozenset()).reads("acme")
    assert ANONYMOUS.reads("umbrella")


def test_access_is_by_labels_and_an_empty_set_reads_nothing() -> None:
    assert principal().access("acme") == Access("acme", frozenset({"tenant"}))
    assert principal().access("acme").allows(frozenset({"hr", "tenant"}))
    assert not principal().access("acme").allows(frozenset({"hr"}))
    assert not Access("acme", frozenset()).allows(frozenset({"tenant"}))
    assert ANONYMOUS.access("acme").allows(frozenset({"hr"}))
