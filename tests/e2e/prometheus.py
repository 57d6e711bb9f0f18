"""A Prometheus server that scrapes one endpoint, and its answers.

Prometheus comes with no Python package: the machine has to have it (Debian's package `prometheus`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.processes import Child, free_port

_START_TIMEOUT_S = 30.0


class Prometheus:
    """A running server, queried by its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def value(self, sample: str, **labels: str) -> float | None:
        """The sum of the samples of this name and these labels as they are now; None if there are none."""
        selector = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        values = self.query(f"sum({sample}{{{selector}}})")
        return values[0] if values else None

    def query(self, expression: str) -> list[float]:
        """The values of an instant vector."""
        return [float(sample["value"][1]) for sample in self.get("query", query=expression)["result"]]

    def get(self, path: str, **parameters: str) -> Any:
        """The data of a response of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]


def program() -> str:
    """Returns the path of Prometheus. Without it the test fails: nothing else replaces it."""
    path = shutil.which("prometheus")
    if path is None:
        pytest.fail("there is no Prometheus on the PATH: run `apt-get install prometheus`", pytrace=False)
    return path


@contextmanager
def scraping(
    target: str,
    folder: Path,
    *,
    rules: Sequence[Path] = (),
    labels: Mapping[str, str] | None = None,
    interval_s: int = 1,
) -> Iterator[Prometheus]:
    """Starts a server that scrapes a target (`http://host:port/metrics`), by default each second.

    Args:
        rules: files of rules, which it evaluates every two seconds, or with every scrape if that is less often.
        labels: of every sample of the target.
        interval_s: between two scrapes.
    """
    prometheus_program = program()
    address, _, path = target.removeprefix("http://").partition("/")
    targets = {"targets": [address], "labels": dict(labels or {})}
    job = {"job_name": "penstock", "metrics_path": f"/{path}", "static_configs": [targets]}
    config = folder / "prometheus.yml"
    document = {
        "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{max(2, interval_s)}s"},
        "rule_files": [str(file) for file in rules],
        "scrape_configs": [job],
    }
    config.write_text(json.dumps(document))  # JSON is YAML
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
    port = free_port()
    server = Child(
        "Prometheus",
        [
            prometheus_program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=folder / "prometheus.log",
    )
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:
        server.wait_until(lambda: _scrapes(prometheus), timeout_s=_START_TIMEOUT_S)
        yield prometheus
    finally:
        server.stop()


def _scrapes(prometheus: Prometheus) -> bool:
    try:
        return prometheus.value("up", job="penstock") == 1
    except (httpx.HTTPError, ValueError):
        return False
