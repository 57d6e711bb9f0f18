from __future__ import annotations

from penstock.observability.tenant_labels import TenantLabels


def test_the_first_tenants_are_shown_by_name_and_all_others_together() -> None:
    labels = TenantLabels(max_tenants=2)
    assert [labels.label(tenant) for tenant in ("a", "b", "c", "a", "d", "b")] == ["a", "b", "other", "a", "other", "b"]


def test_records_without_an_event_take_the_place_of_no_tenant() -> None:
    labels = TenantLabels(max_tenants=1)
    assert [labels.label(tenant) for tenant in ("", "a", "")] == ["(none)", "a", "(none)"]


def test_two_hundred_tenants_are_shown_by_default() -> None:
    labels = TenantLabels()
    assert len({labels.label(f"t{number}") for number in range(500)}) == 201
