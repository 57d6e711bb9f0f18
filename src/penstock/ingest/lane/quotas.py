"""Keeps each tenant within its quota of events and bytes per second.

A tenant that has used its quota up waits until a quarter of a second of it is free again, so that its events go in
batches and not one by one. What it did not use for a while it may catch up on, up to a second's worth.

A plane may have a pace beside the quotas: events per second of all tenants together. What is beyond it waits in the
lane, and then in Kafka.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from penstock.config import QuotaSettings, TenantQuota

_BURST_S = 1.0
_PAUSE_S = 0.25
_MAX_ACCOUNTS = 10_000  # before those of idle tenants are forgotten


@dataclass(slots=True)
class _Account:
    """The use of one tenant, as times of the clock (the generic cell rate algorithm, ITU-T I.371).

    Attributes:
        quota: of the tenant.
        events_until_s: the time up to which its events have used its quota.
        bytes_until_s: the same of their bytes.
        waits_until_s: the time before which it takes nothing.
    """

    quota: TenantQuota
    events_until_s: float = -math.inf
    bytes_until_s: float = -math.inf
    waits_until_s: float = -math.inf

    def take(self, size_bytes: int, now_s: float) -> None:
        earliest_s = now_s - _BURST_S
        if self.quota.events_per_s is not None:
            self.events_until_s = max(self.events_until_s, earliest_s) + 1 / self.quota.events_per_s
        if self.quota.bytes_per_s is not None:
            self.bytes_until_s = max(self.bytes_until_s, earliest_s) + size_bytes / self.quota.bytes_per_s
        used_until_s = max(self.events_until_s, self.bytes_until_s)
        if used_until_s > now_s:
            self.waits_until_s = used_until_s + _PAUSE_S


class TenantQuotas:
    """The quotas of all tenants, as one lane enforces them. For one thread.

    Args:
        settings: the quotas of the plane.
        lanes: that share them evenly.
        clock: monotonic seconds.
    """

    def __init__(self, settings: QuotaSettings, lanes: int, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._lanes = lanes
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._pace: _Account | None = None

    def set_pace(self, events_per_s: float | None) -> None:
        """Sets the pace of this lane; None: there is none. May be called by another thread."""
        if events_per_s is None:
            self._pace = None
        elif (pace := self._pace) is None:
            self._pace = _Account(TenantQuota(events_per_s=events_per_s))
        else:
            pace.quota = TenantQuota(events_per_s=events_per_s)

    def is_ready(self, tenant: str) -> bool:
        """Returns whether an event of a tenant may go now."""
        return self.ready_at_s(tenant) <= self._clock()

    def ready_at_s(self, tenant: str) -> float:
        """Returns the time of the clock from which an event of a tenant may go; minus infinity without a limit."""
        pace = self._pace
        return max(self._quota_at_s(tenant), -math.inf if pace is None else pace.waits_until_s)

    def exceeds(self, tenant: str) -> bool:
        """Returns whether a tenant is at its quota: it waits, or did within the last second."""
        return self._quota_at_s(tenant) + _BURST_S > self._clock()

    def _quota_at_s(self, tenant: str) -> float:
        account = self._accounts.get(tenant)
        return -math.inf if account is None else account.waits_until_s

    @property
    def waiting(self) -> int:
        """Returns the number of tenants that are at their quota."""
        return sum(map(self.exceeds, self._accounts))

    def take(self, tenant: str, size_bytes: int) -> None:
        """Counts an event that goes."""
        if (pace := self._pace) is not None:
            pace.take(size_bytes, self._clock())
        account = self._accounts.get(tenant)
        if account is None:
            quota = self._settings.of_tenant(tenant, share=1 / self._lanes)
            if quota.events_per_s is None and quota.bytes_per_s is None:
                return
            if len(self._accounts) >= _MAX_ACCOUNTS:
                self._accounts = {name: kept for name, kept in self._accounts.items() if self.exceeds(name)}
            account = self._accounts[tenant] = _Account(quota)
        account.take(size_bytes, self._clock())
