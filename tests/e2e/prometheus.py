"""A Prometheus server that scrapes one endpoint, and what it answers; without its program, the endpoint itself is read.

Prometheus comes with no Python package: a machine has it (Debian's package `prometheus`) or has not. What a test asks
is the same either way, and it says which of the two it asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx

from penstock.cli.scrape import scrape
from penstock.processes import Child, free_port

_START_TIMEOUT_S = 30.0


class Asked(Protocol):
    """Whoever can be asked for metrics."""

    def value(self, sample: str, **labels: str) -> float | None:
        """The sum of the samples of this name and these labels as they are now; None if there are none."""


class Prometheus:
    """A real one, asked by its HTTP API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def value(self, sample: str, **labels: str) -> float | None:
        selector = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        found = self.ask(f"sum({sample}{{{selector}}})")
        return found[0] if found else None

    def ask(self, query: str) -> list[float]:
        """The values of an instant vector."""
        response = httpx.get(f"{self._url}/api/v1/query", params={"query": query}, timeout=10)
        answer = response.json()
        assert answer["status"] == "success", answer
        return [float(one["value"][1]) for one in answer["data"]["result"]]


class Direct:
    """The endpoint itself, read by prometheus_client's parser."""

    def __init__(self, target: str) -> None:
        self._target = target

    def value(self, sample: str, **labels: str) -> float | None:
        found = scrape(self._target).samples.get(sample, ())
        values = [value for these, value in found if labels.items() <= these.items()]
        return sum(values) if values else None


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Asked]:
    """Someone to ask about a target (`http://host:port/metrics`), which is scraped each second."""
    program = shutil.which("prometheus")
    if program is None:
        yield Direct(target)
        return
    address, _, path = target.removeprefix("http://").partition("/")
    job = {"job_name": "penstock", "metrics_path": f"/{path}", "static_configs": [{"targets": [address]}]}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))  # JSON is YAML
    subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
    port = free_port()
    server = Child(
        "Prometheus",
        [
            program,
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
