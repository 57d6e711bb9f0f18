"""Readers get the addresses that rules show, and no others."""

from __future__ import annotations

from penstock.query.addresses import show_all, shown_entry, with_shown_addresses
from penstock.query.types import Hit
from penstock.records import Collection, Entry
from tests.query.parts.catalog import Catalog


def hit_of(uri: str) -> Hit:
    entry = Catalog().add(Collection.IMAGE, "cat", uri=uri)
    assert isinstance(entry, Entry)
    return Hit(entry, 1.0, ())


def test_an_address_that_is_not_shown_is_empty_and_the_rest_of_the_hit_stays() -> None:
    hits = [hit_of("https://example.org/a.png"), hit_of("file:///srv/tenant/a.png")]
    shown = with_shown_addresses(hits, lambda uri, tenant: uri.startswith("https:"))
    assert [hit.entry.uri for hit in shown] == ["https://example.org/a.png", ""]
    assert shown[0] == hits[0]
    assert shown[1].entry.id == hits[1].entry.id


def test_the_tenant_decides_with_the_address() -> None:
    entry = hit_of("s3://bucket/a.png").entry
    requested: list[tuple[str, str]] = []
    assert shown_entry(entry, lambda uri, tenant: bool(requested.append((uri, tenant)))).uri == ""
    assert requested == [("s3://bucket/a.png", entry.asset.tenant)]
    assert shown_entry(entry, show_all) is entry
