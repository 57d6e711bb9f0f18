"""Settings of how long assets stay indexed."""

from __future__ import annotations

from pydantic import Field

from penstock.config.section import Section
from penstock.records import Modality


class RetentionRule(Section):
    """Bounds how long assets of a tenant and a modality stay. A table `[[retention.rules]]`."""

    tenant: str | None = Field(None, description="of the assets; unset: all tenants")
    modality: Modality | None = Field(None, description="of the assets; unset: all modalities")
    max_age_days: float = Field(gt=0, description="age from which they expire, days since their newest event")


class RetentionSettings(Section):
    """Bounds how long assets stay indexed, by tenant and modality."""

    rules: tuple[RetentionRule, ...] = Field(
        (),
        description="tables with tenant, modality and max_age_days, of which the first that fits an asset decides; an "
        "asset that none fits stays",
    )
    interval_s: float = Field(3_600.0, ge=1, description="interval between two runs of the ingest plane, seconds")
