"""Settings of what each tenant may have the ingest plane take."""

from __future__ import annotations

from pydantic import Field

from penstock.config.section import Section


class TenantQuota(Section):
    """The events and bytes per second of one tenant."""

    events_per_s: float | None = Field(None, gt=0, description="events per second; unset: no limit")
    bytes_per_s: float | None = Field(None, gt=0, description="bytes of records per second; unset: no limit")


class QuotaSettings(Section):
    """The quotas of all tenants. The events of a tenant beyond them wait in Kafka, and those of no other do."""

    events_per_s: float | None = Field(
        None, gt=0, description="events of each tenant per second, shared by the lanes evenly; unset: no limit"
    )
    bytes_per_s: float | None = Field(
        None,
        gt=0,
        description="bytes of each tenant per second, shared by the lanes evenly; unset: no limit",
    )
    tenants: dict[str, TenantQuota] = Field(
        {}, description="quotas of tenants by name, in place of both others: `[quota.tenants.acme] events_per_s = 500`"
    )

    def of_tenant(self, tenant: str, *, share: float = 1.0) -> TenantQuota:
        """Returns a share of the quota of a tenant."""
        quota = self.tenants.get(tenant) or TenantQuota(events_per_s=self.events_per_s, bytes_per_s=self.bytes_per_s)
        return TenantQuota(
            events_per_s=quota.events_per_s and quota.events_per_s * share,
            bytes_per_s=quota.bytes_per_s and quota.bytes_per_s * share,
        )
