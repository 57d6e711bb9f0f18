"""The recording rules: errors of each objective over several windows, and what alerts and panels share.

Names follow sloth (`slo:sli_error:ratio_rate5m`), with one label `slo`, so that its dashboards and habits apply.
"""

from __future__ import annotations

from collections.abc import Sequence

from ops.rules_model import Recording
from ops.slos import Objectives, Slo

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "3d")
_BY = "by (cluster, namespace)"

INGEST_CAUSE = "penstock:ingest_cause:active"
INGEST_EXPLAINED = "penstock:ingest_cause:recent"
QUERY_CAUSE = "penstock:query_cause:active"
QUERY_EXPLAINED = "penstock:query_cause:recent"
DRIVER_ABSENT = "penstock:driver:absent"
CANARY_ERROR = "penstock:canary_error:ratio_rate5m"
DEAD_LETTER_RATIO = "penstock:dead_letter:ratio_rate10m"
QUERY_ERROR = "penstock:query_error:ratio_rate5m"
REPLICAS_EXPECTED = "penstock:query_replicas:expected"
REPLICAS_RUNNING = "penstock:query_replicas:running"


def shared_recordings() -> Sequence[Recording]:
    """Returns the rules that several alerts, objectives and panels read."""
    return (_canary_error(), *_replicas(), *_causes(), *_ratios())


def slo_recordings(objectives: Objectives) -> Sequence[Recording]:
    """Returns the errors of each objective over all windows, and its figures over the period."""
    return tuple(rule for slo in objectives.slos for rule in (*_errors(slo), *_budget(slo, objectives.period_days)))


def error_of(slo: str, window: str) -> str:
    """Returns the recorded share of errors of an objective."""
    return f'slo:sli_error:ratio_rate{window}{{slo="{slo}"}}'


def _errors(slo: Slo) -> Sequence[Recording]:
    return [Recording(f"slo:sli_error:ratio_rate{window}", slo.error(window), {"slo": slo.name}) for window in WINDOWS]


def _budget(slo: Slo, period_days: int) -> Sequence[Recording]:
    """Returns what sloth calls metadata: the objective, its budget, and how fast and how far that is spent."""
    labels, period = {"slo": slo.name}, f"{period_days}d"
    over_period = f"slo:sli_error:ratio_rate{period}"
    matching = f'on (slo) group_left () slo:error_budget:ratio{{slo="{slo.name}"}}'
    return [
        Recording(over_period, f"avg_over_time({error_of(slo.name, '5m')}[{period}])", labels),
        Recording("slo:objective:ratio", f"vector({slo.objective})", labels),
        Recording("slo:error_budget:ratio", f"vector({slo.budget})", labels),
        Recording("slo:time_period:days", f"vector({period_days})", labels),
        Recording("slo:current_burn_rate:ratio", f"{error_of(slo.name, '5m')} / {matching}", labels),
        Recording("slo:period_burn_rate:ratio", f"{error_of(slo.name, period)} / {matching}", labels),
        Recording(
            "slo:period_error_budget_remaining:ratio",
            f'1 - slo:period_burn_rate:ratio{{slo="{slo.name}"}}',
            labels,
        ),
    ]


def _canary_error() -> Recording:
    """Returns the share of canaries that were not found within 5 s, by modality; 1 if none ended in five minutes.

    Counted over time, not over events: while nothing moves, each canary waits until it is late, and few end.
    """
    by = "by (cluster, namespace, modality)"
    fast = f'sum {by} (rate(penstock_canary_seconds_bucket{{le="5.0"}}[5m]))'
    every = f"sum {by} (rate(penstock_canaries_total[5m]))"
    share = f"(\n  {fast}\n  / ({every} > 0)\n)\nor 0 * {every}"
    return Recording(CANARY_ERROR, f"1 - clamp_max(\n{share}\n, 1)")


def _causes() -> Sequence[Recording]:
    """Returns what keeps the alerts on symptoms silent: causes that are there now, and those that paged lately.

    A cause that has ended leaves its errors in the windows of the objectives, and a backlog that is settled late. So
    symptoms stay silent for 30 minutes after the page of a cause: the longer of the two short windows that page. A
    cause too short for a page of its own explains nothing afterwards: if it comes again and again, the budget pages.
    """
    held = f'max {_BY} (penstock_held{{why!="budget"}}) > 0'
    breaker = f"max {_BY} (penstock_breaker_open) > 0"
    store = f'max {_BY} (penstock_held{{why="store"}}) > 0'
    return [
        Recording(DRIVER_ABSENT, _driver_absent()),
        Recording(INGEST_CAUSE, f"(\n  {held}\n  or {breaker}\n  or max {_BY} ({DRIVER_ABSENT})\n) * 0 + 1"),
        Recording(
            QUERY_CAUSE, f"(\n  {breaker}\n  or {store}\n  or {REPLICAS_RUNNING} < {REPLICAS_EXPECTED}\n) * 0 + 1"
        ),
        Recording(
            INGEST_EXPLAINED,
            _recent(INGEST_CAUSE, "IngestHeld|PartitionHalted|IngestStalled|DependencyDown|DriverAbsent"),
        ),
        Recording(QUERY_EXPLAINED, _recent(QUERY_CAUSE, "QueryReplicasMissing|DependencyDown")),
    ]


def _driver_absent() -> str:
    """Returns PromQL that is 1 where Penstock is scraped and no driver ingests, or where nothing is scraped at all.

    A StatefulSet that was scaled to 0, by KEDA or by hand, is meant to have no driver. What is not scraped has no
    namespace: there, any such StatefulSet is a reason.
    """
    targets = 'up{job=~".*penstock.*"}'
    unwanted = f'sum {_BY} (kube_statefulset_replicas{{statefulset=~".*penstock.*driver"}}) == 0'
    return (
        f'(\n  count {_BY} ({targets})\n  unless sum {_BY} (penstock_processes{{process="ingest"}}) > 0\n'
        f"  unless {unwanted}\n)\n* 0 + 1\nor (\n  absent({targets})\n  unless on () ({unwanted})\n)"
    )


def _recent(active: str, alerts: str) -> str:
    names = f'alertname=~"Penstock({alerts})"'
    paged = f'max {_BY} (max_over_time(ALERTS{{{names}, alertstate="firing"}}[30m]))'
    return f"{active}\nor {paged}"


def _replicas() -> Sequence[Recording]:
    """Returns the running and the expected replicas of the query plane.

    Ray Serve's target, where its metrics are scraped; else one, if any ran within the last day.
    """
    seen = f'max {_BY} (max_over_time(penstock_processes{{process="query"}}[1d]))'
    return [
        Recording(REPLICAS_RUNNING, f'sum {_BY} (penstock_processes{{process="query"}})\nor 0 * {seen}'),
        Recording(
            REPLICAS_EXPECTED,
            f'max {_BY} (ray_serve_autoscaling_target_replicas{{application="penstock"}})\nor clamp_max({seen}, 1)',
        ),
    ]


def _ratios() -> Sequence[Recording]:
    queries = f"sum {_BY} (rate(penstock_query_seconds_count[5m])) > 0"
    channels = f"sum {_BY} (rate(penstock_query_channel_seconds_count[5m])) > 0"
    kinds = {
        "error": (f'sum {_BY} (rate(penstock_query_seconds_count{{status=~"5.."}}[5m]))', queries),
        "refused": (f'sum {_BY} (rate(penstock_query_seconds_count{{status="429"}}[5m]))', queries),
        "partial": (f'sum {_BY} (rate(penstock_query_channel_seconds_count{{result="missing"}}[5m]))', channels),
    }
    dead, settled = (f"sum {_BY} (rate(penstock_{name}_total[10m]))" for name in ("dead_letters", "events"))
    return [
        Recording(DEAD_LETTER_RATIO, f"(\n  {dead}\n  or 0 * {settled}\n)\n/ ({settled} > 0)"),
        *(
            Recording(QUERY_ERROR, f"(\n  {part}\n  or 0 * ({every})\n)\n/ ({every})", {"kind": kind})
            for kind, (part, every) in kinds.items()
        ),
    ]
