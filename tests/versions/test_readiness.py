"""A version that is not filled, lacks assets, lags or is not held is refused in one line."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from penstock.assets import AssetStore
from penstock.errors import UsageError
from penstock.versions import Phase, Progress, Reindex, drop_reindex, read_reindex, write_progress, write_reindex
from penstock.versions.readiness import check_filled, check_lag, confirm_filled, lacking_replicas, wait_until
from penstock.versions.replicas import ReplicaReport

READY = Reindex(1, 2, "shelf", "penstock.v2", 0, Phase.READY)
FILLED = Progress(done=10, total=10, missing=0, rate_per_s=1.0, updated_ms=0)


@pytest.mark.parametrize("phase", [Phase.READY, Phase.SWITCHED])
def test_a_filled_version_may_be_served(phase: Phase) -> None:
    check_filled(replace(READY, phase=phase), FILLED)
    check_filled(replace(READY, phase=phase), None)


@pytest.mark.parametrize(
    ("reindex", "progress", "message"),
    [
        (replace(READY, phase=Phase.FILLING), replace(FILLED, done=3), "not filled yet with 3 of 10 assets"),
        (replace(READY, phase=Phase.FILLING), None, "version 2 is not filled yet"),
        (replace(READY, phase=Phase.DROPPED), FILLED, "being removed"),
        (READY, replace(FILLED, missing=4), "4 assets are not available for version 2"),
    ],
)
def test_a_version_that_lacks_assets_is_refused(reindex: Reindex, progress: Progress | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        check_filled(reindex, progress)
    assert "\n" not in str(refused.value)


def test_missing_assets_that_were_waived_do_not_keep_a_version_from_being_served() -> None:
    check_filled(replace(READY, waived=True), replace(FILLED, missing=4))


def test_a_version_that_was_removed_during_the_wait_is_refused_and_its_record_stays() -> None:
    assets = AssetStore(f"memory://readiness-{uuid.uuid4().hex}")
    dropped = replace(READY, phase=Phase.DROPPED, dropping=2)
    write_reindex(assets, dropped)
    with pytest.raises(UsageError, match="being removed"):
        confirm_filled(assets, 2, waive=True)
    assert read_reindex(assets) == dropped
    drop_reindex(assets)
    with pytest.raises(UsageError, match="has ended"):
        confirm_filled(assets, 2, waive=True)
    assert read_reindex(assets) is None


def test_a_waiver_is_recorded_in_the_present_record() -> None:
    assets = AssetStore(f"memory://readiness-{uuid.uuid4().hex}")
    write_progress(assets, replace(FILLED, missing=4))
    write_reindex(assets, replace(READY, phase=Phase.SWITCHED))
    with pytest.raises(UsageError, match="4 assets"):
        confirm_filled(assets, 2, waive=False)
    confirm_filled(assets, 2, waive=True)
    assert read_reindex(assets) == replace(READY, phase=Phase.SWITCHED, waived=True)


def test_a_version_that_lags_is_refused() -> None:
    check_lag(2, 1_000, 1_000)
    with pytest.raises(UsageError, match="version 2 lags by 1,001 events"):
        check_lag(2, 1_001, 1_000)


def test_replicas_that_do_not_hold_a_version_are_named_with_the_reason() -> None:
    reports = [
        ReplicaReport("aa", (1, 2), 1, 0),
        ReplicaReport("bb", (1,), 1, 0),
        ReplicaReport("cc", (1,), 1, 0, {2: "no weights"}),
    ]
    assert lacking_replicas(reports, 2) == [
        "replica bb does not hold version 2 yet",
        "replica cc does not hold version 2: no weights",
    ]
    assert lacking_replicas(reports, 1) == []


def test_waiting_ends_with_the_condition_or_the_time() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert wait_until(lambda: now[0] >= 0.35, timeout_s=1.0, clock=lambda: now[0], sleep=sleep)
    assert now[0] == pytest.approx(0.4)
    assert not wait_until(lambda: False, timeout_s=1.0, clock=lambda: now[0], sleep=sleep)
    assert now[0] == pytest.approx(1.4, abs=0.11)
