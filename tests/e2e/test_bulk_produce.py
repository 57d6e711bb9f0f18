"""Sends the objects of a real S3 server to a real Kafka, with `penstock produce` killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import s3fs

from penstock.broker.reader import KafkaReader
from penstock.broker.topics import ensure_media_topics
from penstock.config import KafkaSettings
from penstock.records import Record
from tests.services import kafka_server, s3_server

FILES = int(os.environ.get("PENSTOCK_TEST_BULK_FILES", "2000"))
KILLS = 3
TOPIC = "media.text"
_DEADLINE_S = 120.0
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
        for number in range(FILES):
            files.pipe_file(f"lake/texts/{number % 10}/{number:06}.txt", _text(number).encode())
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


@pytest.mark.services
@pytest.mark.exhaustive
def test_objects_are_sent_once_each_although_the_command_is_killed(
    lake: Mapping[str, str], kafka: KafkaSettings, tmp_path: Path
) -> None:
    rate = FILES / 8
    command = Command(tmp_path / "data", lake, kafka, "--rate", str(rate))
    with KafkaReader(kafka) as reader:
        for kill in range(1, KILLS + 1):
            process = command.start()
            before = _count(reader)
            goal = max(before + 1, FILES * kill // (KILLS + 1))
            _wait(lambda goal=goal: _count(reader) >= goal, process)  # type: ignore[misc]
            process.kill()
            process.wait()
        assert command.start().wait(_DEADLINE_S) == 0, command.output()
        records = _records(reader)
    assert "Continuing where the last run ended" in command.output()
    sent = Counter((record.key or b"").decode() for record in records)
    assert sent.keys() == {_key(number) for number in range(FILES)}
    latest = {(record.key or b"").decode(): record.value for record in records}
    assert all(latest[_key(number)] == _text(number).encode() for number in range(FILES))
    again = len(records) - FILES
    assert again <= KILLS * _MAX_AGAIN_S * rate, f"{again} events were sent again"
    assert list((tmp_path / "data" / "produce").iterdir()) == []
    print(f"{FILES} objects, {KILLS} kills: {again} sent again")  # noqa: T201  # the figure of the report


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
