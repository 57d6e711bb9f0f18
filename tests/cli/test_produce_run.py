"""Tests that a run of `penstock produce` continues wherever the last one ended, and what it does with its state."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.broker.base import Message
from penstock.cli.produce_run import ProduceRun
from penstock.cli.streaming import ProduceTally
from penstock.config import Settings, load_settings
from penstock.errors import UnavailableError, UsageError
from penstock.observability import metrics
from penstock.produce.items import ProduceOptions
from penstock.records import Position
from tests.counted import counted


class FailingBroker:
    """A broker that takes a number of messages of each connection, and then no more."""

    def __init__(self, taken: list[int]) -> None:
        self.log: list[Message] = []
        self._taken = taken

    def connect(self, _: Settings) -> FailingBroker:
        self._left = self._taken.pop(0) if self._taken else 1_000_000
        return self

    def send(self, message: Message) -> Future[Position]:
        future: Future[Position] = Future()
        if self._left <= 0:
            future.set_exception(UnavailableError("no broker answers."))
            return future
        self._left -= 1
        self.log.append(message)
        future.set_result(Position(message.topic, 0, len(self.log) - 1))
        return future

    def flush(self, timeout_s: float) -> None: ...

    def close(self, timeout_s: float) -> None: ...


def files_in(folder: Path, count: int) -> list[str]:
    lake = folder / "lake"
    for number in range(count):
        file = lake / str(number % 3) / f"{number:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}")
    return [f"lake/{number % 3}/{number:03}.txt" for number in range(count)]


def test_items_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    def counts() -> list[float]:
        return [counted(metrics.PRODUCED_ITEMS, result=name) for name in ("acknowledged", "refused", "unacknowledged")]

    files_in(tmp_path, 4)
    (tmp_path / "lake" / "0" / "none.bin").write_bytes(bytes(9))
    before = counts()
    run = ProduceRun(Settings(data_dir=tmp_path / "data"), quiet=True, open_producer=FailingBroker([]).connect)
    run.send_sources([str(tmp_path / "lake")], ProduceOptions(), state=None, restart=False)
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [4, 1, 0]
    assert not (tmp_path / "data" / "metrics").exists()  # no plane of this node counts


def run_until_done(folder: Path, broker: FailingBroker, source: Callable[[Path], str]) -> int:
    """Returns the number of runs."""
    configured = Settings(data_dir=folder / "data")
    for runs in range(1, 100):
        run = ProduceRun(configured, quiet=True, open_producer=broker.connect)
        try:
            run.send_sources([source(folder / "lake")], ProduceOptions(), state=None, restart=False)
        except UnavailableError:
            continue
        return runs
    raise AssertionError("it never ended")


@pytest.mark.parametrize("source", [str, Path.as_uri], ids=["folder", "url"])
def test_every_file_is_sent_once_however_often_the_broker_goes_away(source: Callable[[Path], str]) -> None:
    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 12), max_size=6))
    def interrupted(taken: list[int]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder, broker = Path(name), FailingBroker([*taken])
            keys = files_in(folder, 12)
            runs = run_until_done(folder, broker, source)
            assert sorted((message.key or b"").decode() for message in broker.log) == sorted(keys)
            assert runs <= len(taken) + 1
            assert list((folder / "data" / "produce").iterdir()) == []

    interrupted()


def test_a_run_that_fails_ends_its_reads(tmp_path: Path) -> None:
    files_in(tmp_path, 12)
    run = ProduceRun(Settings(data_dir=tmp_path / "data"), quiet=True, open_producer=FailingBroker([4]).connect)
    lake = (tmp_path / "lake").as_uri()
    with pytest.raises(UnavailableError) as failed:
        run.send_sources([lake], ProduceOptions(), state=None, restart=False)
    assert failed.tb is not None  # which holds the frames of the run
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")] == []


def interrupted_run(folder: Path) -> tuple[FailingBroker, Callable[..., ProduceTally]]:
    """Returns a broker that has four of twelve files, and what runs the command again."""
    files_in(folder, 12)
    broker = FailingBroker([4])

    def run(
        *, state: Path | None = None, restart: bool = False, servers: str | None = None, **options: str
    ) -> ProduceTally:
        configured = load_settings(data_dir=folder / "data", kafka={"bootstrap_servers": servers})
        produce = ProduceRun(configured, quiet=True, open_producer=broker.connect)
        chosen = ProduceOptions(**options)  # type: ignore[arg-type]
        return produce.send_sources([str(folder / "lake")], chosen, state=state, restart=restart)

    with pytest.raises(UnavailableError):
        run()
    assert len(broker.log) == 4
    return broker, run


def test_a_run_can_begin_again(tmp_path: Path) -> None:
    broker, run = interrupted_run(tmp_path)
    run(restart=True)
    assert len(broker.log) == 4 + 12


def test_a_run_of_other_options_is_another_one(tmp_path: Path) -> None:
    broker, run = interrupted_run(tmp_path)
    run(tenant="acme")
    assert len(broker.log) == 4 + 12
    run()
    assert len(broker.log) == 4 + 12 + 8


def test_a_run_to_another_cluster_is_another_one(tmp_path: Path) -> None:
    broker, run = interrupted_run(tmp_path)
    run(servers="other:9092")
    assert len(broker.log) == 4 + 12, "the other cluster has nothing of what the first one acknowledged"
    run()
    assert len(broker.log) == 4 + 12 + 8


def test_what_an_interrupted_run_refused_is_said_by_the_one_that_continues(tmp_path: Path) -> None:
    """The files are sent in the order of their folders: 0/000, 0/003… to 0/empty, then 1/001 as the fifth."""
    files_in(tmp_path, 12)
    (tmp_path / "lake" / "0" / "empty.txt").touch()
    (tmp_path / "lake" / "2" / "empty.txt").touch()
    broker = FailingBroker([5])
    configured = load_settings(data_dir=tmp_path / "data")

    def run() -> ProduceTally:
        produce = ProduceRun(configured, quiet=True, open_producer=broker.connect)
        return produce.send_sources([str(tmp_path / "lake")], ProduceOptions(), state=None, restart=False)

    with pytest.raises(UnavailableError):
        run()
    tally = run()
    assert [source.label.rpartition("lake/")[2] for source in tally.refused] == ["2/empty.txt"]
    assert tally.refused_before.count == 1
    assert [source.label.rpartition("lake/")[2] for source in tally.refused_before.first] == ["0/empty.txt"]
    tally.refused.clear()
    assert not tally.complete, "the command ends with 1 for what an earlier run refused"
    assert (run().refused_before.count, len(broker.log)) == (0, 12 + 12)


def test_what_was_interrupted_long_ago_begins_again(tmp_path: Path) -> None:
    broker, run = interrupted_run(tmp_path)
    (state,) = (tmp_path / "data" / "produce").iterdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(state, (two_days_ago, two_days_ago))
    run()
    assert len(broker.log) == 4 + 12


def test_a_named_state_continues_however_old_it_is(tmp_path: Path) -> None:
    broker, run = interrupted_run(tmp_path)
    (state,) = (tmp_path / "data" / "produce").iterdir()
    os.utime(state, (0, 0))
    run(state=state)
    assert len(broker.log) == 12
    assert not state.exists()


def test_sources_whose_keys_would_mix_and_a_state_of_stdin_are_refused(tmp_path: Path) -> None:
    for folder in ("a/photos", "b/photos"):
        (tmp_path / folder).mkdir(parents=True)
    run = ProduceRun(Settings(data_dir=tmp_path / "data"), quiet=True, open_producer=FailingBroker([]).connect)
    urls = [(tmp_path / folder).as_uri() for folder in ("a/photos", "b/photos")]
    with pytest.raises(UsageError, match="keys would mix"):
        run.send_sources(urls, ProduceOptions(), state=None, restart=False)
    with pytest.raises(UsageError, match="stdin cannot"):
        run.send_sources(["-"], ProduceOptions(), state=tmp_path / "s.json", restart=False)
    with pytest.raises(UsageError, match="no file or folder"):
        run.send_sources([str(tmp_path / "absent")], ProduceOptions(), state=None, restart=False)
