from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.config import QuotaSettings, TenantQuota
from penstock.ingest.lane.quotas import TenantQuotas
from tests.clock import Clock


def quotas(clock: Clock, *, lanes: int = 1, **default: float) -> TenantQuotas:
    settings = QuotaSettings(**default, tenants={"acme": TenantQuota(events_per_s=10)})
    return TenantQuotas(settings, lanes, clock)


def taken_in(quota: TenantQuotas, clock: Clock, seconds: float, tenant: str = "acme", size_bytes: int = 1) -> int:
    """Takes events as fast as the quota allows, and returns how many."""
    taken, end_s = 0, clock.now_s + seconds
    while clock.now_s < end_s:
        while quota.is_ready(tenant) and taken < 10_000:
            quota.take(tenant, size_bytes)
            taken += 1
        clock.now_s += 0.05
    return taken


def test_a_tenant_takes_a_burst_of_a_second_and_then_its_rate() -> None:
    clock = Clock()
    assert taken_in(quotas(clock), clock, 10.0) in range(100, 113)


def test_a_tenant_that_has_used_its_quota_up_waits_for_a_quarter_of_a_second_of_it() -> None:
    clock = Clock()
    quota = quotas(clock)
    while quota.is_ready("acme"):
        quota.take("acme", 1)
    waits_s = quota.ready_at_s("acme") - clock.now_s
    assert 0.25 < waits_s <= 0.25 + 0.1
    clock.now_s += waits_s
    assert quota.is_ready("acme")


def test_lanes_share_a_quota() -> None:
    clock = Clock()
    assert taken_in(quotas(clock, lanes=4), clock, 20.0) in range(50, 58)


def test_a_tenant_without_a_quota_never_waits() -> None:
    clock = Clock()
    quota = quotas(clock)
    for _ in range(5_000):
        quota.take("other", 1_000_000)
    assert quota.is_ready("other")
    assert not quota.exceeds("other")
    assert quota.waiting == 0


def test_bytes_have_a_quota_of_their_own_and_one_larger_event_is_paid_off() -> None:
    clock = Clock()
    quota = quotas(clock, bytes_per_s=1_000)
    quota.take("other", 5_000)
    assert not quota.is_ready("other")
    clock.now_s += 4.0 + 0.24
    assert not quota.is_ready("other")
    clock.now_s += 0.02
    assert quota.is_ready("other")


@given(st.lists(st.tuples(st.sampled_from(("acme", "other")), st.floats(0, 2)), max_size=60))
def test_no_tenant_takes_more_than_its_quota_and_a_burst(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    quota = quotas(clock, events_per_s=5)
    taken = {"acme": 0, "other": 0}
    for tenant, seconds in steps:
        if quota.is_ready(tenant):
            quota.take(tenant, 1)
            taken[tenant] += 1
        clock.now_s += seconds
        for name, rate in (("acme", 10), ("other", 5)):
            assert taken[name] <= (clock.now_s + 1.0) * rate + 1


def test_a_pace_bounds_all_tenants_together_and_can_change() -> None:
    clock = Clock()
    quota = TenantQuotas(QuotaSettings(), 1, clock)
    quota.set_pace(20.0)
    end_s, taken = clock.now_s + 10.0, 0
    while clock.now_s < end_s:
        for tenant in ("a", "b", "c"):
            while quota.is_ready(tenant):
                quota.take(tenant, 1)
                taken += 1
        clock.now_s += 0.05
    assert taken in range(200, 230)
    assert not quota.exceeds("a")  # it keeps its place in the lane: nothing is deferred for the pace
    quota.set_pace(200.0)
    assert taken_in(quota, clock, 10.0) in range(1_900, 2_300)
    quota.set_pace(None)
    assert quota.is_ready("a")


def test_a_pace_does_not_lift_a_quota() -> None:
    clock = Clock()
    quota = quotas(clock)
    quota.set_pace(1_000.0)
    assert taken_in(quota, clock, 10.0) in range(100, 113)
