"""Every actor that an ingest plane starts logs as the settings say, whatever its pool."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle

from penstock.config import LogSettings, MetricsSettings, Settings
from penstock.encoders.load import fingerprint
from penstock.encoders.profiles import OCR, load_profile
from penstock.ingest import launcher
from penstock.ingest.lane.handles import DECODE, FETCH, LONG_MEDIA, WRITE
from penstock.ingest.launcher import PlaneLauncher
from penstock.store.memory import MemoryStore

_PROCESS = """
import logging, sys
import ray.cloudpickle
from pathlib import Path
from penstock.config import LogSettings
from penstock.observability.logs import configure

for name, start in ray.cloudpickle.loads(Path(sys.argv[1]).read_bytes()).items():
    configure(LogSettings(format="json", level="error"), "none")
    start(name)
    logging.getLogger("penstock.a").debug("by %s", name)
"""


def test_every_pool_and_the_writers_log_in_the_format_and_from_the_level_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Callable[[str], None]] = {}

    def spawn(*_: object, name: str, on_start: Callable[[str], None], **__: Any) -> list[object]:
        started[name] = on_start
        return []

    monkeypatch.setattr(launcher, "spawn_actors", spawn)
    monkeypatch.setattr(launcher, "open_store", lambda _: MemoryStore())
    monkeypatch.setattr(launcher, "results_of", lambda *_: [])  # there are no actors
    settings = Settings(
        profile="null:8",
        data_dir=tmp_path,
        log=LogSettings(format="json", level="debug"),
        metrics=MetricsSettings(enabled=False),
    )
    profile = load_profile(settings.profile)
    plane = PlaneLauncher(settings, profile)
    spawns = plane._spawns(0.0)
    for spawn_pool in spawns.values():
        spawn_pool(1)
    plane._start_writers({role: fingerprint(role, profile) for role in plane._roles})
    assert started.keys() == {FETCH, DECODE, LONG_MEDIA, OCR, WRITE, *plane._roles}

    functions = tmp_path / "on_start"
    functions.write_bytes(ray.cloudpickle.dumps(started))  # type: ignore[no-untyped-call]
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, str(functions)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    lines = {name: f'"message": "by {name}", "process": "{name}"' for name in started}
    assert [name for name, line in lines.items() if line not in done.stdout] == []
