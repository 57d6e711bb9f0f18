from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.assets import SweepReport
from penstock.cli.main import main
from penstock.config import Settings
from penstock.ingest import asset_gc

REMOVED = SweepReport(100, 3, 2_500_000, 4, restored=1, purged=2)
HELD = SweepReport(100, 60, 0, 4, held="60 of 100 media (60%) would go")


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def sweep_assets(settings: Settings, *, now_s: float, **options: bool) -> SweepReport:
        calls.append(options)
        return REMOVED if options["force"] or options["dry_run"] else HELD

    monkeypatch.setattr(asset_gc, "sweep_assets", sweep_assets)
    monkeypatch.setenv("PENSTOCK_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("PENSTOCK_STORE__URI", "http://milvus:19530")
    return calls


def test_a_held_sweep_says_why_and_exits_with_1(
    swept: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep"]) == 1
    assert swept == [{"force": False, "dry_run": False}]
    shown = capsys.readouterr().err
    assert "60 of 100 media (0.0 MB) would be removed" in shown
    assert "Nothing was removed: 60 of 100 media (60%) would go. Use --force" in shown


def test_what_was_removed_and_put_back_is_shown(
    swept: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--force"]) == 0
    shown = capsys.readouterr().err
    assert "3 of 100 media (2.5 MB) were removed; 4 more are younger" in shown
    assert "1 were put back from the trash, 2 were removed permanently." in shown


def test_a_dry_run_is_one(swept: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--dry-run", "--json"]) == 0
    assert swept == [{"force": False, "dry_run": True}]
    assert json.loads(capsys.readouterr().out)["removed"] == 3
