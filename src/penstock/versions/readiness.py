"""Decides whether a version of the index may be served: filled, near the present, and held by all replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from penstock.assets import AssetStore
from penstock.errors import UsageError
from penstock.versions.progress import Progress, read_progress
from penstock.versions.replicas import ReplicaReport
from penstock.versions.state import Phase, Reindex, read_reindex, write_reindex

_POLL_S = 0.1


def check_filled(reindex: Reindex, progress: Progress | None) -> None:
    """Refuses a version that lacks assets.

    Raises:
        UsageError: one line that says what is lacking and what to do.
    """
    version = reindex.to_version
    if reindex.phase is Phase.DROPPED:
        raise UsageError("one of the two versions is being removed: `penstock reindex drop` completes that")
    if reindex.phase is Phase.FILLING:
        done = "" if progress is None else f" with {progress.done:,} of {progress.total:,} assets"
        raise UsageError(f"version {version} is not filled yet{done}: see `penstock reindex status`")
    missing = 0 if progress is None else progress.missing
    if missing and not reindex.waived:
        raise UsageError(
            f"{missing:,} assets are not available for version {version}: `penstock reindex status` names them, and "
            "`penstock reindex switch --waive` goes without them"
        )


def confirm_filled(assets: AssetStore, version: int, *, waive: bool) -> None:
    """Refuses a version as `check_filled` does by its present record, and records that assets may be missing.

    For a command that has waited since it read the record: the version may be removed by now.

    Raises:
        UsageError: one line that says what is lacking and what to do.
        UnavailableError: the asset store does not answer.
    """
    reindex = read_reindex(assets)
    if reindex is None or reindex.to_version != version:
        raise UsageError(f"the re-index to version {version} has ended, and nothing was switched")
    confirmed = replace(reindex, waived=reindex.waived or waive)
    check_filled(confirmed, read_progress(assets))
    if confirmed != reindex:
        write_reindex(assets, confirmed)


def check_lag(version: int, lag: int, max_lag: int) -> None:
    """Refuses a version that is behind the topics. Raises UsageError, in one line."""
    if lag > max_lag:
        raise UsageError(
            f"version {version} lags by {lag:,} events, more than --max-lag {max_lag:,}: its answers would be older "
            "than those of now. Wait, or give a larger --max-lag"
        )


def lacking_replicas(reports: Iterable[ReplicaReport], version: int) -> Sequence[str]:
    """Returns a line for each replica that does not hold a version, with the reason if it gave one."""
    return [
        f"replica {report.replica} does not hold version {version}"
        + (f": {reason}" if (reason := report.failures.get(version)) else " yet")
        for report in reports
        if version not in report.holds
    ]


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Looks ten times a second until a condition holds; returns whether it did in time."""
    ends_s = clock() + timeout_s
    while not condition():
        if clock() >= ends_s:
            return False
        sleep(_POLL_S)
    return True
