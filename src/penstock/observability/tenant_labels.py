"""Bounds the number of tenants that metrics show, as each is a series of its own."""

from __future__ import annotations

OTHER = "other"
NO_EVENT = "(none)"  # no tenant has this name
_MAX_TENANTS = 200


class TenantLabels:
    """The tenants that a process shows in metrics: the first ones that it counts.

    Args:
        max_tenants: how many of them.
    """

    def __init__(self, max_tenants: int = _MAX_TENANTS) -> None:
        self._max_tenants = max_tenants
        self._shown: set[str] = set()

    def label(self, tenant: str) -> str:
        """Returns the name of a tenant, `other` beyond the maximum, or `(none)` for a record without an event."""
        if not tenant:
            return NO_EVENT
        if tenant not in self._shown:
            if len(self._shown) >= self._max_tenants:
                return OTHER
            self._shown.add(tenant)
        return tenant
