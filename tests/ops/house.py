"""All of a Penstock as processes of their own, each of which a test may stop: services, both planes and a Prometheus.

Nothing restarts what ends here, unlike under `penstock up` or Kubernetes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psutil

from ops.rule_files import rule_files
from ops.slos import Objectives, read_objectives
from penstock.broker.topics import ensure_topics, group_lag
from penstock.config import Settings, load_settings, to_environment
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.ray import EmbeddedRay, ray_environment
from penstock.embedded.supervisor import answers, ingests
from penstock.processes import Child, free_port
from tests.e2e.prometheus import Prometheus, scraping
from tests.e2e.stack import eventually
from tests.services import kafka_broker
from tests.store.servers import LiteServer, milvus_lite_server

_MIB = 1024 * 1024
DATA_BYTES = 512 * _MIB  # of the data folder, which is a file system of its own, so that it can be full
MIN_FREE_BYTES = 64 * _MIB
_START_S = 480.0  # of the models of all modalities, on a machine that does other work as well
_STOP_S = 45.0
_SCRAPES_S = 10  # between two, as in production; more often where the rules' times are divided
_RAY_CPUS = 16  # a count, not a limit
LABELS = {"cluster": "c1", "namespace": "prod"}


@dataclass
class House:
    """The running processes, by what they are."""

    settings: Settings
    kafka: EmbeddedKafka
    store: LiteServer
    ray: EmbeddedRay
    _planes: dict[str, Child] = field(default_factory=dict)

    @property
    def query_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.query.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.metrics.port}/metrics"

    def start(self, plane: str) -> None:
        """Starts a plane, `ingest` or `serve`; returns when it works."""
        child = self.launch(plane)
        ready = {
            "ingest": lambda: ingests(self.settings, started_ms),
            "serve": lambda: answers(self.query_url, self.settings),
        }[plane]
        started_ms = int(psutil.Process(child.pid).create_time() * 1000)
        child.wait_until(ready, timeout_s=_START_S)

    def launch(self, plane: str) -> Child:
        """Starts a plane, and returns immediately."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment = {**kept, **to_environment(self.settings), **ray_environment(self.settings.data_dir)}
        command = [sys.executable, "-m", "penstock.cli.main", "-v", plane]
        log = self.settings.data_dir / "logs" / f"{plane}.log"
        child = self._planes[plane] = Child(plane, command, log=log, env=environment)
        return child

    def stop(self, plane: str) -> None:
        """Ends a plane as an operator would; no error if it does not run."""
        child = self._planes.pop(plane, None)
        if child is not None:
            child.stop(timeout_s=_STOP_S)

    def kill(self, plane: str) -> None:
        """Sends SIGKILL to a plane's driver."""
        self._planes.pop(plane).kill()

    def actors(self, name: str) -> Sequence[psutil.Process]:
        """Returns the processes of the actors whose class has this name."""
        assert self.ray.pid is not None
        children = psutil.Process(self.ray.pid).children(recursive=True)
        return [child for child in children if _title(child).startswith(f"ray::{name}")]

    def lag(self) -> int:
        """Returns how many events are not committed."""
        kafka = self.settings.kafka
        topics = [kafka.topic_of(modality) for modality in self.settings.ingest.modalities]
        return sum(partition.lag for partition in group_lag(kafka, topics))

    def metric(self, sample: str) -> float:
        """Returns the sum of the samples that begin so, as the endpoint has them now."""
        lines = httpx.get(self.metrics_url, timeout=10).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample))

    def close(self) -> None:
        for plane in ("serve", "ingest"):
            self.stop(plane)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def standing(modalities: Sequence[str] = ("text", "image"), **ingest: object) -> Iterator[House]:
    """A house in which everything runs; gone afterwards, come what may.

    Args:
        modalities: that are ingested.
        ingest: settings of the section, besides those of the house.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_small_disk())
        ray = EmbeddedRay(folder, min_cpus=_RAY_CPUS)
        stack.callback(ray.stop)
        ray_address = ray.start()
        kafka = stack.enter_context(kafka_broker())
        store = stack.enter_context(milvus_lite_server())
        query_port = free_port()
        settings = load_settings(
            profile="reference",
            data_dir=folder,
            ray_address=ray_address,
            kafka={"bootstrap_servers": kafka.bootstrap_servers, "partitions": 2},
            store={"uri": store.uri, "timeout_s": 5.0},
            ingest={"modalities": list(modalities), "min_free_disk_bytes": MIN_FREE_BYTES, **ingest},
            metrics={"port": free_port()},
            query={"port": query_port},
            canary={"interval_s": 10.0, "query_url": f"http://127.0.0.1:{query_port}"},
        )
        ensure_topics(settings.kafka, settings.ingest.modalities)
        house = House(settings, kafka, store, ray)
        stack.callback(house.close)
        house.start("ingest")
        house.start("serve")
        yield house


@contextmanager
def _small_disk() -> Iterator[Path]:
    """Yields a folder that is a small file system, in memory. Needs root, as pods and images do."""
    with tempfile.TemporaryDirectory(prefix="penstock-ops-", ignore_cleanup_errors=True) as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DATA_BYTES}", "none", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextmanager
def watched(house: House, folder: Path, *, divisor: float = 1) -> Iterator[Prometheus]:
    """Yields a Prometheus with the product's rules, whose times are divided by a divisor.

    The goal of latency is 1 s instead of 200 ms: Milvus Lite answers one search at a time, and the machine may be busy.

    Args:
        folder: for its data and the rules; kept.
    """
    rules = []
    for name, text in rule_files(_objectives(), divisor=divisor).items():
        rules.append(folder / name)
        rules[-1].write_text(text, encoding="utf-8")
    interval_s = max(2, round(_SCRAPES_S / divisor))
    with scraping(house.metrics_url, folder, rules=rules, labels=LABELS, interval_s=interval_s) as prometheus:
        recorded = 'count_over_time(slo:sli_error:ratio_rate5m{slo="query-latency"}[1m]) > 3'
        eventually(lambda: prometheus.query(recorded) != [], "recording rules have values", 120)
        yield prometheus


def _objectives() -> Objectives:
    objectives = read_objectives()
    latency = objectives.named("query-latency")
    assert 'le="0.2"' in latency.bad
    slower = replace(latency, bad=latency.bad.replace('le="0.2"', 'le="1.0"'))
    return replace(objectives, slos=[slower if slo is latency else slo for slo in objectives.slos])


def firing(prometheus: Prometheus, *states: str) -> Mapping[str, str]:
    """Returns the severity of each alert in one of these states, `firing` by default, by name and labels."""
    return {
        _described(alert["labels"]): alert["labels"]["severity"]
        for alert in prometheus.get("alerts")["alerts"]
        if alert["state"] in (states or ("firing",))
    }


def _described(labels: Mapping[str, str]) -> str:
    names = ("why", "dependency", "topic", "reason", "modality", "channel", "slo", "Name")
    values = [labels[name] for name in names if name in labels]
    return " ".join([labels["alertname"].removeprefix("Penstock"), *values])
