"""Tests the log of a process in both formats, and that of actors on the output of a node."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.observability import tracing
from penstock.observability.logs import JsonFormatter
from penstock.observability.open_telemetry import OpenTelemetryTracing

_PROCESS = """
import logging, sys, warnings
from penstock.config import LogSettings
from penstock.observability.logs import configure

configure(LogSettings(format=sys.argv[1], level=sys.argv[2]), "lane")
log, other = logging.getLogger("penstock.a"), logging.getLogger("library")
log.debug("debug"); log.info("info"); log.warning("two\\nlines: %s", "Grüße"); other.warning("of a library")
other.error("error of a library")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def output(script: str, *arguments: str, **environment: str) -> tuple[str, str]:
    """Returns what a process writes to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line]


def test_json_is_one_object_a_line_on_stdout_and_nothing_else_is() -> None:
    stdout, stderr = output(_PROCESS, "json", "warning")
    assert stderr == ""
    warning, error, failure = documents(stdout)
    assert (warning["level"], warning["logger"], warning["message"]) == ("WARNING", "penstock.a", "two\nlines: Grüße")
    assert (warning["process"], warning["pid"] > 1, bool(warning["node"])) == ("lane", True, True)
    assert warning["time"].endswith("Z")
    assert len(warning["time"]) == len("2026-11-30T08:15:45.123Z")
    assert error["message"] == "error of a library"
    assert failure["exception"].endswith("ZeroDivisionError: division by zero")
    assert "exception" not in warning


def test_a_line_within_a_sampled_trace_has_its_id() -> None:
    traces = OpenTelemetryTracing(SimpleSpanProcessor(InMemorySpanExporter()), sample_rate=0.0)
    record = logging.LogRecord("penstock.a", logging.WARNING, __file__, 1, "a line", None, None)
    formatter = JsonFormatter("query")
    with tracing.using(traces):
        assert "trace_id" not in json.loads(formatter.format(record))
        with traces.request("/v1/search", [(b"traceparent", f"00-{'a' * 32}-{'b' * 16}-01".encode())]):
            assert json.loads(formatter.format(record))["trace_id"] == "a" * 32


def test_text_is_on_stderr_with_its_level_and_logger() -> None:
    stdout, stderr = output(_PROCESS, "text", "info")
    assert stdout == ""
    assert " INFO penstock.a: info\n" in stderr
    assert " WARNING library: of a library\n" in stderr
    assert "debug" not in stderr
    assert stderr.count("failed\n") == 1


_TWICE = """
import logging
from penstock.config import LogSettings
from penstock.observability.logs import configure

configure(LogSettings(level="info"), "first")
configure(LogSettings(format="json", level="error"), "second")
logging.getLogger("penstock").warning("not logged")
logging.getLogger("penstock").error("logged once")
"""


def test_a_second_call_takes_the_place_of_the_first() -> None:
    stdout, stderr = output(_TWICE)
    assert stderr == ""
    (document,) = documents(stdout)
    assert (document["message"], document["process"]) == ("logged once", "second")


_CLUSTER = """
import logging
import ray
from penstock.assembly import join_ray
from penstock.config import LogSettings
from penstock.observability.logs import configure

settings = LogSettings(format="json")
configure(settings, "ingest")
join_ray("local")
logging.getLogger("penstock.driver").warning("the driver")

@ray.remote(num_cpus=0)
class Actor:
    def __init__(self):
        configure(settings, "lane")

    def work(self):
        logging.getLogger("penstock.actor").warning("the actor")
        logging.getLogger("ray").error("of Ray in the actor")

actor = Actor.remote()
ray.get(actor.work.remote())
ray.shutdown()
"""


@pytest.mark.services
def test_the_output_of_a_node_has_the_log_of_its_actors_as_json() -> None:
    stdout, _ = output(_CLUSTER, RAY_LOG_TO_STDERR="1", RAY_BACKEND_LOG_JSON="1")
    # Ray's own programs write a few lines of text in between: markers of jobs and actors, and addresses.
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    by_message = {document["message"]: document for document in documents("\n".join(lines))}
    assert by_message["the driver"]["process"] == "ingest"
    assert by_message["the actor"]["process"] == "lane"
    assert by_message["the actor"]["pid"] != by_message["the driver"]["pid"]
    assert by_message["of Ray in the actor"]["logger"] == "ray"


_HOSTILE = """
import logging, sys
from penstock.config import LogSettings
from penstock.observability.logs import configure

configure(LogSettings(format=sys.argv[1]), "lane")
key = "a\\x1b[2J\\x1b]52;c;eA==\\x07\\n2026-11-30 08:00:00,000 ERROR penstock.ingest: all media are lost\\x9b31m"
logging.getLogger("penstock.a").warning("the media of %s are others", key)
try:
    raise ValueError(key)
except ValueError:
    logging.getLogger("penstock.a").exception("failed")
"""


def test_a_key_neither_begins_a_line_of_text_nor_reaches_the_terminal_as_a_command() -> None:
    _, stderr = output(_HOSTILE, "text")
    assert not set(stderr) & set("\x1b\x07\x9b\r")
    lines = stderr.splitlines()
    assert len([line for line in lines if not line.startswith("  ")]) == 2


def test_a_key_in_json_has_nothing_that_a_terminal_obeys() -> None:
    stdout, _ = output(_HOSTILE, "json")
    assert not set(stdout) & set("\x1b\x07\x9b\r")
    warning, failure = documents(stdout)
    assert "\x1b]52" in warning["message"]  # a reader of JSON gets what was sent
    assert "\x9b31m" in failure["exception"]
