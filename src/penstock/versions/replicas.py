"""Keeps the reports of replicas: which versions of the index each holds, and which one it serves.

A replica is reached by the load balancer alone, so that a command cannot ask each of them. While a re-index is under
way each writes a note of its own in the folder `replicas` of the asset store: when something changes, and every few
seconds as a sign of life. A replica that died stops to write: its report is left out, and removed an hour later by a
replica that begins to report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from penstock.assets import AssetStore

FOLDER = "replicas"
REPORT_EVERY_S = 5.0
# Four reports of a replica, or clocks that differ by as many seconds.
OUTDATED_AFTER_S = 20.0
REMOVED_AFTER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """Reports what one replica holds and serves.

    Attributes:
        replica: hexadecimal digits that name it.
        holds: the versions whose plane is ready; empty while it starts.
        serves: the version that it answers from; None while it starts.
        reported_ms: when it was written, milliseconds since the epoch.
        failures: why a version could not be loaded, by its number.
    """

    replica: str
    holds: tuple[int, ...]
    serves: int | None
    reported_ms: int
    failures: Mapping[int, str] = field(default_factory=dict)


def write_report(assets: AssetStore, report: ReplicaReport) -> None:
    """Writes the report of a replica, in place of its last one. Raises `UnavailableError`."""
    assets.put_note(_name(report.replica), json.dumps(asdict(report)).encode())


def drop_report(assets: AssetStore, replica: str) -> None:
    """Removes the report of a replica, if there is one. Raises `UnavailableError`."""
    assets.drop_note(_name(replica))


def read_reports(assets: AssetStore, *, now_ms: int) -> Sequence[ReplicaReport]:
    """Returns the reports of living replicas, by name. One that cannot be read is left out.

    Args:
        assets: the asset store.
        now_ms: milliseconds since the epoch.

    Raises:
        UnavailableError: the asset store does not answer.
    """
    oldest_ms = now_ms - OUTDATED_AFTER_S * 1000
    reports = (_parsed(assets.note(f"{FOLDER}/{name}")) for name in sorted(assets.notes(FOLDER)))
    return [report for report in reports if report is not None and report.reported_ms >= oldest_ms]


def drop_dead_reports(assets: AssetStore, *, now_ms: int) -> None:
    """Removes the reports of replicas that died, which have been outdated for long; arguments as `read_reports`.

    Raises:
        UnavailableError: the asset store does not answer.
    """
    oldest_ms = now_ms - REMOVED_AFTER_S * 1000
    for name in assets.notes(FOLDER):
        report = _parsed(assets.note(f"{FOLDER}/{name}"))
        if report is not None and report.reported_ms < oldest_ms:
            assets.drop_note(f"{FOLDER}/{name}")


def _name(replica: str) -> str:
    return f"{FOLDER}/{replica}.json"


def _parsed(data: bytes | None) -> ReplicaReport | None:
    try:
        content = json.loads(data or b"")
        return ReplicaReport(
            replica=str(content["replica"]),
            holds=tuple(map(int, content["holds"])),
            serves=None if content["serves"] is None else int(content["serves"]),
            reported_ms=int(content["reported_ms"]),
            failures={int(version): str(reason) for version, reason in content["failures"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
