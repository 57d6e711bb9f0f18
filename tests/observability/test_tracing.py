from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from penstock.config import Settings, load_settings
from penstock.errors import ConfigError
from penstock.observability import tracing
from penstock.records import Position, Record

RECORD = Record(
    Position("media.text", 0, 7), b"k", b"v", (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01".encode()),), 0
)


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    with tracing.using(tracing.NO_TRACING):
        yield


def test_tracing_is_off_without_an_endpoint_and_records_nothing() -> None:
    tracing.connect(Settings(), "lane")
    traces = tracing.current()
    assert traces is tracing.NO_TRACING
    assert traces.receive(RECORD, "") is tracing.NO_SPAN
    assert traces.send("media.text").headers == ()
    with traces.batch("media.text", [tracing.NO_SPAN]), traces.span("write"), traces.commit(lambda _: True):
        assert traces.carrier() == ""
    with traces.request("/v1/search", [(b"traceparent", RECORD.headers[0][1])]) as span:
        span.end("200")
        traces.link(f"00-{'a' * 32}-{'b' * 16}-01", RECORD.position)
        traces.add_ended("fuse", began_s_ago=1, ended_s_ago=0)
    traces.flush(1.0)


def test_nothing_imports_opentelemetry_while_tracing_is_off() -> None:
    """FastAPI imports its interface by itself where that is installed, so the application is left out."""
    program = """
import sys
import penstock.broker.traced_producer, penstock.ingest.lane.assembly, penstock.ingest.executor.workers
import penstock.query.pipeline, penstock.serve.middleware.tracing
from penstock.config import Settings
from penstock.observability.exposition import connect
connect(Settings(metrics={"enabled": False}), "lane")
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_packages_is_refused_in_one_line() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from penstock.config import load_settings
from penstock.errors import ConfigError
from penstock.observability import tracing
try:
    tracing.connect(load_settings(tracing={"endpoint": "http://127.0.0.1:4318"}), "lane")
except ConfigError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("\n") == 1
    assert "opentelemetry.exporter" in done.stdout
    assert "pip install 'penstock[tracing]'" in done.stdout


def test_the_first_connection_of_a_process_counts() -> None:
    settings = load_settings(tracing={"endpoint": "http://127.0.0.1:1"})
    tracing.connect(settings, "lane")
    first = tracing.current()
    assert first is not tracing.NO_TRACING
    tracing.connect(settings, "decode")
    assert tracing.current() is first


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://"])
def test_an_endpoint_is_a_url_of_http(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"tracing\.endpoint"):
        load_settings(tracing={"endpoint": endpoint})
