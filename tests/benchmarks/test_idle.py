from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.idle import measure_idle, parse_overrides, role_of_process, table
from benchmarks.stack import LocalStack, stack_settings
from penstock.processes import Child


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["ray::decode-0"], "ray::decode-0"),
        (["/ray/core/src/ray/raylet/raylet", "--node"], "raylet"),
        (["java", "-Xmx512m", "kafka.Kafka"], "Kafka"),
        (["python", "-m", "penstock.cli.main", "-v", "ingest"], "penstock ingest"),
        ([], "unnamed"),
    ],
)
def test_a_process_has_a_readable_name(command: list[str], role: str) -> None:
    assert role_of_process(command) == role


def test_memory_and_cpu_time_are_those_of_each_process_within_the_window(tmp_path: Path) -> None:
    settings = stack_settings(tmp_path, profile="null:8", store_uri=None)
    busy = "held = bytearray(b'x' * 50_000_000)\nwhile True: pass"
    child = Child("a busy process", [sys.executable, "-c", busy], log=tmp_path / "log")
    try:
        (cost,) = measure_idle(LocalStack(settings, child), seconds=2.0)
    finally:
        child.kill()
    assert 50 < cost.pss_mb < 500
    assert 0.2 < cost.cpu_s < 2.5
    (row,) = table({"processes": [asdict(cost)], "seconds": 2.0})
    assert row["PSS MB"] == f"{cost.pss_mb:.0f}"


def test_settings_are_read_with_values_in_json() -> None:
    overrides = parse_overrides(['ingest.modalities=["text"]', "canary.interval_s=0", "store.embedded=lite"])
    assert overrides == {
        "ingest": {"modalities": ["text"]},
        "canary": {"interval_s": 0},
        "store": {"embedded": "lite"},
    }
