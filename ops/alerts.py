"""All alerts, in the order of the page that lists them."""

from __future__ import annotations

from collections.abc import Sequence

from ops.alerts_budget import budget_alerts
from ops.alerts_ingest import ingest_alerts
from ops.alerts_platform import platform_alerts
from ops.alerts_query import query_alerts
from ops.rules_model import Alert
from ops.slos import Objectives

MAX_ALERTS = 24
"""More are not read at night: a new one takes the place of another."""


def every_alert(objectives: Objectives) -> Sequence[Alert]:
    """Returns all alerts."""
    return (*budget_alerts(objectives), *ingest_alerts(), *query_alerts(), *platform_alerts())
