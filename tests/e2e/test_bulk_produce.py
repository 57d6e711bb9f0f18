"""Sends the objects of a real S3 server to a real Kafka, with `penstock produce` killed on the way.

`PENSTOCK_TEST_BULK_FILES=100000` scales it; `PENSTOCK_TEST_BULK_MAX_LAG` bounds the lag of a run beside live events.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

from penstock.broker.base import Message
from penstock.broker.change_messages import parse_change_message
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.broker.topics import ensure_media_topics
from penstock.config import KafkaSettings
from penstock.records import Record
from tests.e2e.stack import Stack, eventually
from tests.services import kafka_server, s3_server

FILES = int(os.environ.get("PENSTOCK_TEST_BULK_FILES", "2000"))
KILLS = 3
TOPIC = "media.text"
MAX_LAG = int(os.environ.get("PENSTOCK_TEST_BULK_MAX_LAG", "50"))
PAIRS = 3
LIVE_PER_S, LIVE_S = 10, 6
_DEADLINE_S = 120.0 + FILES / 50
# A command on an idle machine of two cores sends its first event 3 s after its start, most of which are imports.
_MAX_RESUME_S = 30.0
# Settled messages that the state file does not know yet are sent again: those of a second, and the window.
_MAX_AGAIN_S = 2.0


@pytest.fixture(scope="module")
def lake() -> Iterator[Mapping[str, str]]:
    """A bucket of texts, as the environment by which a client reaches it."""
    with s3_server() as environment:
        files = s3fs.S3FileSystem(
            key=environment["AWS_ACCESS_KEY_ID"],
            secret=environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        )
        files.mkdir("lake")
        objects = {f"lake/{_key(number)}": _text(number).encode() for number in range(FILES)}
        files.pipe(objects, batch_size=64)
        files.pipe_file("lake/texts/.hidden.txt", b"not this one")
        yield environment


@pytest.fixture
def kafka() -> Iterator[KafkaSettings]:
    with kafka_server() as bootstrap_servers:
        settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
        ensure_media_topics(settings, [TOPIC])
        yield settings


def _text(number: int) -> str:
    return f"The object with the number {number}."


def _key(number: int) -> str:
    return f"texts/{number % 10}/{number:06}.txt"


class Command:
    """`penstock produce` of the bucket in a process that can be killed."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], kafka: KafkaSettings | None, *options: str
    ) -> None:
        self._arguments = ["-m", "penstock.cli.main", "--data-dir", str(folder), "produce", "s3://lake/texts", *options]
        broker = {} if kafka is None else {"PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": str(kafka.bootstrap_servers)}
        self._environment = {**os.environ, **environment, **broker, "PENSTOCK_INGEST__MODALITIES": '["text"]'}
        self._log = folder / "produce.log"
        folder.mkdir(exist_ok=True)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *self._arguments], env=self._environment, stderr=self._log.open("ab"))

    def output(self) -> str:
        return self._log.read_text()


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _DEADLINE_S
    while not condition():
        assert process.poll() is None, "the command ended before it was killed"
        assert time.monotonic() < until_s
        time.sleep(0.05)  # the topic cannot be awaited without a consumer of its own


def _records(reader: KafkaReader) -> list[Record]:
    return [
        record
        for partition, log in reader.bounds([TOPIC]).items()
        for record in reader.read(partition, log.start, log.end)
    ]


def _count(reader: KafkaReader) -> int:
    return sum(log.end - log.start for log in reader.bounds([TOPIC]).values())


@dataclass(frozen=True)
class KilledRun:
    """The times of a command that was killed three times and then ended.

    Attributes:
        resume_s: from each start of the command to its first event, in seconds.
        total_s: from the first start to the end.
    """

    resume_s: list[float]
    total_s: float


def _send_with_kills(command: Command, reader: KafkaReader) -> KilledRun:
    """Runs the command, kills it when a quarter, a half and three quarters of the objects are sent, and lets it end."""
    began_s = time.monotonic()
    resume_s: list[float] = []

    def start() -> subprocess.Popen[bytes]:
        before, started_s = _count(reader), time.monotonic()
        process = command.start()
        _wait(lambda: _count(reader) > before, process)
        resume_s.append(time.monotonic() - started_s)
        return process

    for kill in range(1, KILLS + 1):
        process = start()
        goal = FILES * kill // (KILLS + 1)
        _wait(lambda goal=goal: _count(reader) >= goal, process)  # type: ignore[misc]
        process.kill()
        process.wait()
    assert start().wait(_DEADLINE_S) == 0, command.output()
    assert "Continuing where the last run ended" in command.output()
    return KilledRun(resume_s, time.monotonic() - began_s)


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(600 + FILES // 10)
def test_objects_are_sent_once_each_although_the_command_is_killed(
    lake: Mapping[str, str], kafka: KafkaSettings, tmp_path: Path
) -> None:
    rate = FILES / 8
    command = Command(tmp_path / "data", lake, kafka, "--rate", str(rate))
    with KafkaReader(kafka) as reader:
        run = _send_with_kills(command, reader)
        records = _records(reader)
    sent = Counter((record.key or b"").decode() for record in records)
    assert sent.keys() == {_key(number) for number in range(FILES)}
    latest = {(record.key or b"").decode(): record.value for record in records}
    assert all(latest[_key(number)] == _text(number).encode() for number in range(FILES))
    again = len(records) - FILES
    assert again <= KILLS * _MAX_AGAIN_S * rate, f"{again} events were sent again"
    assert list((tmp_path / "data" / "produce").iterdir()) == []
    assert max(run.resume_s) < _MAX_RESUME_S
    print(f"{FILES} objects, {KILLS} kills: {again} sent again, {run}")  # noqa: T201  # the figures of the report


@pytest.mark.services
@pytest.mark.exhaustive
def test_the_lag_bounds_what_is_sent(lake: Mapping[str, str], kafka: KafkaSettings, tmp_path: Path) -> None:
    command = Command(tmp_path / "data", lake, kafka, "--max-lag", "100")
    process = command.start()
    try:
        with KafkaReader(kafka) as reader:
            _wait(lambda: _count(reader) >= 100, process)
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:  # there is no consumer, so that nothing more may come
                assert _count(reader) == 100
                time.sleep(0.2)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole Penstock whose encoders take no time, so that its own share of the work shows."""
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": '["text"]',
    }
    stack = Stack(tmp_path_factory.mktemp("bulk") / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(900 + FILES // 10)
def test_objects_are_indexed_once_each_although_the_command_is_killed(
    lake: Mapping[str, str], stack: Stack, tmp_path: Path
) -> None:
    kafka = stack.settings.kafka
    command = Command(tmp_path / "data", lake, kafka, "--rate", str(FILES / 8), "--tenant", "lake")
    with KafkaReader(kafka) as reader:
        before = _count(reader)
        run = _send_with_kills(command, reader)
        sent = _count(reader) - before
    stack.settle(_DEADLINE_S)
    settled_s = time.monotonic()
    audit = stack.json("audit", timeout_s=_DEADLINE_S)  # which exits with 1 if it does not balance
    assert audit["indexed"] + audit["superseded"] == sent
    assert (audit["assets"], audit["entries"], audit["dead_lettered"]) == (FILES, FILES, 0)
    assert max(run.resume_s) < _MAX_RESUME_S
    print(  # noqa: T201  # the figures of the report
        f"{FILES} objects, {KILLS} kills: {sent - FILES} sent again, {run}, audit {time.monotonic() - settled_s:.1f} s"
    )


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_live_events_are_at_most_twice_as_old_beside_a_bulk_run(
    lake: Mapping[str, str], stack: Stack, tmp_path: Path
) -> None:
    """Compares the 95th percentiles of freshness of live events alone and beside a run, in pairs that alternate."""
    kafka = stack.settings.kafka
    alone, beside, rates = [], [], []
    with KafkaReader(kafka) as reader:
        _live_p95_s(stack, reader, "warm-up")
        for pair in range(PAIRS):
            stack.settle()
            alone.append(_live_p95_s(stack, reader, f"alone-{pair}"))
            options = ("--max-lag", str(MAX_LAG), "--tenant", f"bulk-{pair}")
            process = Command(tmp_path / f"data-{pair}", lake, kafka, *options).start()
            try:
                before = _count(reader)
                _wait(lambda before=before: _count(reader) > before + MAX_LAG, process)  # type: ignore[misc]
                before = _count(reader)
                beside.append(_live_p95_s(stack, reader, f"beside-{pair}"))
                rates.append((_count(reader) - before) / LIVE_S - LIVE_PER_S)
                assert process.poll() is None, "the run ended first: raise PENSTOCK_TEST_BULK_FILES"
            finally:
                process.kill()
                process.wait()
    print(f"p95 alone {alone} s, beside {beside} s, {rates} objects/s, lag {MAX_LAG}")  # noqa: T201
    assert statistics.median(beside) <= 2 * statistics.median(alone)


def _live_p95_s(stack: Stack, reader: KafkaReader, prefix: str) -> float:
    """Produces events at a fixed pace, and returns the 95th percentile of the seconds until they can be found."""
    topic = stack.settings.kafka.changes_topic
    starts = {partition: log.end for partition, log in reader.bounds([topic]).items()}
    producer = MessageProducer(stack.settings.kafka)
    try:
        count = LIVE_PER_S * LIVE_S
        began_s = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began_s + number / LIVE_PER_S - time.monotonic()))  # the pace of live events
            producer.send(Message(TOPIC, f"{prefix}-{number}".encode(), f"Live event {prefix} {number}.".encode()))
        producer.flush(30)
    finally:
        producer.close(10)
    ages_s: dict[str, float] = {}

    def all_announced() -> bool:
        for partition, log in reader.bounds([topic]).items():
            ages_s.update(_ages_s(reader.read(partition, starts.get(partition, log.start), log.end), prefix))
        return len(ages_s) == count

    eventually(all_announced, f"{count} events of {prefix} are announced", _DEADLINE_S)
    return sorted(ages_s.values())[int(count * 0.95)]


def _ages_s(records: Iterable[Record], prefix: str) -> Iterator[tuple[str, float]]:
    """Yields the keys of live events, and the seconds from each to the message that announced its entries."""
    for record in records:
        for change in parse_change_message(record):
            if change.key.startswith(f"{prefix}-"):
                yield change.key, (record.timestamp_ms - change.timestamp_ms) / 1000
