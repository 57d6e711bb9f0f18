"""One contract for both kinds of pool; death, restart and blame need processes and run on Ray alone."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from penstock.errors import BadInputError, Reason, UnavailableError, WorkerBrokenError, WorkerLostError
from penstock.ingest.executor.pool import Call, LeastLoaded, LocalPool, Pool, Usage, call_all
from penstock.ingest.executor.ray_actor import spawn_actors, start_call
from penstock.ingest.executor.ray_pool import RayPool
from penstock.records import UInt8


class Worker:
    """Does arithmetic, and dies on demand."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lost_device = False

    def pixels(self, count: int) -> UInt8:
        return np.full(count, 7, np.uint8)

    def total(self, pixels: UInt8) -> int:
        return int(pixels.sum())

    def halves(self, number: int) -> tuple[int, int]:
        return number // 2, number - number // 2

    def refuse(self) -> None:
        raise BadInputError(Reason.CORRUPT, "not an image")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hold(self, started: str, release: str) -> int:
        """Writes a file when it begins, and returns once the other file exists."""
        note = Path(started + ".part")
        note.write_text(str(os.getpid()))
        note.rename(started)
        while not Path(release).exists():
            time.sleep(0.01)
        return os.getpid()

    def meet(self, folder: str, count: int) -> int:
        """Returns its number once `count` workers are here."""
        (Path(folder) / f"here-{self._number}").touch()
        while len(list(Path(folder).glob("here-*"))) < count:
            time.sleep(0.01)
        return self._number

    def pid(self) -> int:
        return os.getpid()

    def lost_device(self) -> bool:
        return self._lost_device

    def lose_device(self) -> None:
        self._lost_device = True
        raise WorkerBrokenError("CUDA error: device-side assert triggered")

    def hang(self) -> None:
        threading.Event().wait()

    def work_for(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()


class LateStarter(Worker):
    """Cannot be made again while a file exists, as if the store were unavailable."""

    def __init__(self, number: int, away: Path) -> None:
        if away.exists():
            raise UnavailableError("the store is unavailable")
        super().__init__(number)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)
    yield
    ray.shutdown()


MakePool = Callable[[int], Pool]


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.services)])
def make_pool(request: pytest.FixtureRequest) -> MakePool:
    if request.param == "local":
        return lambda size: LocalPool(Worker, size)
    request.getfixturevalue("cluster")
    notes: Path = request.getfixturevalue("tmp_path")
    return lambda size: ray_pool(size, notes)


def ray_pool(size: int, notes: Path) -> RayPool:
    return RayPool("test", spawn_actors(Worker, size, name="test", journal_dir=notes, num_cpus=0.1), call_timeout_s=60)


def test_results_travel_from_one_call_into_the_next_by_reference(make_pool: MakePool) -> None:
    pool = make_pool(2)
    (pixels,) = pool.run(Worker.pixels, 1_000_000).results
    assert pool.fetch(pool.run(Worker.total, pixels).results[0]) == 7_000_000


def test_several_results_are_several_references(make_pool: MakePool) -> None:
    pool = make_pool(1)
    assert [pool.fetch(ref) for ref in pool.run(Worker.halves, 7, returns=2).results] == [3, 4]


def test_an_error_of_ours_arrives_as_it_was_raised(make_pool: MakePool) -> None:
    with pytest.raises(BadInputError, match="not an image") as caught:
        make_pool(1).run(Worker.refuse)
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.services
def test_a_failed_call_keeps_nothing_in_memory_once_its_error_is_forgotten(cluster: None, tmp_path: Path) -> None:
    def fail() -> weakref.ref[Worker]:
        of_the_batch = Worker(0)
        with contextlib.suppress(BadInputError):
            pool.run(Worker.refuse)
        return weakref.ref(of_the_batch)

    pool = ray_pool(1, tmp_path)
    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()


def test_a_permanently_broken_worker_is_replaced_and_its_call_is_blamed(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with pytest.raises(WorkerLostError) as caught:
        pool.run(Worker.lose_device)
    assert caught.value.blamed
    assert not caught.value.hung
    assert pool.fetch(pool.run(Worker.lost_device).results[0]) is False


def test_all_workers_are_called_concurrently(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(3)
    calls = pool.run_on_all(Worker.meet, str(tmp_path), 3)  # none returns before all have come
    assert [pool.fetch(call.results[0]) for call in calls] == [0, 1, 2]


def test_if_one_of_all_calls_fails_the_others_are_still_started_and_awaited() -> None:
    seen: list[str] = []

    def call(name: str, *, begins: bool = True, ends: bool = True) -> Callable[[], Callable[[], Call]]:
        def begin() -> Callable[[], Call]:
            seen.append(f"begin {name}")
            if not begins:
                raise UnavailableError(name)
            return end

        def end() -> Call:
            seen.append(f"end {name}")
            if not ends:
                raise WorkerLostError(name)
            return Call((), 0.0)

        return begin

    with pytest.raises(UnavailableError, match="b"):
        call_all([call("a", ends=False), call("b", begins=False), call("c")])
    assert seen == ["begin a", "begin b", "begin c", "end a", "end c"]


def test_calls_go_to_the_worker_with_the_fewest_under_way(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(2)
    release = tmp_path / "release"
    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(pool.run, Worker.hold, str(tmp_path / str(number)), str(release)) for number in range(2)]
        while not all((tmp_path / str(number)).exists() for number in range(2)):
            assert not any(call.done() for call in held)
            time.sleep(0.01)
        release.touch()
        assert len({call.result().results[0] for call in held}) == 2


def test_a_quarantined_worker_is_picked_only_if_there_is_no_other() -> None:
    load = LeastLoaded(["a", "b"])
    with load.quarantine("a", 60):
        with load.acquire() as first, load.acquire() as second:
            assert (first, second) == ("b", "b")
        load.replace(["a"])
        with load.acquire() as only:
            assert only == "a"


def test_a_worker_that_did_not_return_is_retried_later() -> None:
    now_s = 0.0
    load = LeastLoaded(["a", "b"], clock=lambda: now_s)

    def picked() -> set[str]:
        with load.acquire() as first, load.acquire() as second:
            return {first, second}

    with pytest.raises(UnavailableError), load.quarantine("a", 60):
        raise UnavailableError("no room for it")
    assert picked() == {"b"}
    now_s = 61.0
    assert picked() == {"a", "b"}


def test_the_time_of_calls_under_way_is_added_up() -> None:
    now_s = 0.0
    load = LeastLoaded(["a", "b"], clock=lambda: now_s)
    with load.track("a"):
        now_s = 1.0
        with load.track("a"):
            now_s = 3.0
            assert load.usage()["a"] == Usage(calls=2, busy_s=3.0, call_s=5.0)
    now_s = 9.0
    assert load.usage() == {"a": Usage(calls=0, busy_s=3.0, call_s=5.0), "b": Usage()}


def test_a_replaced_worker_is_remembered_until_its_last_call_has_ended() -> None:
    load = LeastLoaded(["a"])
    with load.acquire() as worker:
        load.replace(["b"])
        with load.acquire() as other:
            assert (worker, other) == ("a", "b")
        assert load.usage()["a"].calls == 1
    assert list(load.usage()) == ["b"]


@pytest.mark.services
def test_workers_are_replaced_while_calls_are_under_way_and_no_call_is_lost(cluster: None, tmp_path: Path) -> None:
    """Grows and shrinks under a crowd of callers; an actor goes once no call is under way on it."""
    pool = ray_pool(1, tmp_path / "0")
    handles = list(pool.usage())
    enough = threading.Event()

    def keep_calling() -> int:
        done = 0
        while not enough.is_set():
            (pixels,) = pool.run(Worker.pixels, 200_000).results
            assert pool.fetch(pool.run(Worker.total, pixels).results[0]) == 1_400_000
            done += 1
        return done

    with ThreadPoolExecutor(6) as threads:
        callers = [threads.submit(keep_calling) for _ in range(6)]
        for round_ in range(1, 3):
            added = spawn_actors(Worker, 2, name="test", journal_dir=tmp_path, num_cpus=0.1, first_number=2 * round_)
            ray.get([handle.ready.remote() for handle in added])
            retired, handles = handles, added
            pool.replace(handles)
            while any(handle in pool.usage() for handle in retired):
                assert not any(caller.done() for caller in callers)
                time.sleep(0.01)
            for handle in retired:
                ray.kill(handle)
        enough.set()
        assert all(caller.result() > 0 for caller in callers)


@pytest.mark.services
def test_the_results_of_an_actor_outlive_it(cluster: None, tmp_path: Path) -> None:
    pool = ray_pool(2, tmp_path)
    results = [pool.run(Worker.pixels, 1_000_000).results[0] for _ in range(4)]
    first, second = pool.usage()
    pool.replace([second])
    ray.kill(first)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(first.ready.remote())
    assert [pool.fetch(pool.run(Worker.total, pixels).results[0]) for pixels in results] == [7_000_000] * 4


@pytest.mark.services
def test_a_worker_that_dies_is_lost_blamed_on_its_call_and_restarted(cluster: None, tmp_path: Path) -> None:
    pool = ray_pool(1, tmp_path)
    first = pool.fetch(pool.run(Worker.pid).results[0])
    with pytest.raises(WorkerLostError) as caught:
        pool.run(Worker.die)
    assert caught.value.blamed
    assert pool.fetch(pool.run(Worker.pid).results[0]) != first


@pytest.mark.services
def test_a_call_that_waited_behind_the_one_that_killed_the_worker_is_lost_but_not_blamed(
    cluster: None, tmp_path: Path
) -> None:
    pool = ray_pool(1, tmp_path)
    started, release = tmp_path / "started", tmp_path / "release"
    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(pool.run, Worker.hold, str(started), str(release))
        while not started.exists():
            assert not held.done()
            time.sleep(0.01)
        waiting = threads.submit(pool.run, Worker.pid)
        os.kill(int(started.read_text()), signal.SIGKILL)
        with pytest.raises(WorkerLostError) as blamed:
            held.result()
        with pytest.raises(WorkerLostError) as waited:
            waiting.result()
    assert blamed.value.blamed
    assert not waited.value.blamed


@pytest.mark.services
def test_a_worker_that_hangs_on_a_call_is_killed_blamed_and_restarted(cluster: None, tmp_path: Path) -> None:
    pool = RayPool("test", spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1), call_timeout_s=2)
    with pytest.raises(WorkerLostError) as caught:
        pool.run(Worker.hang)
    assert caught.value.blamed
    assert caught.value.hung
    assert pool.fetch(pool.run(Worker.total, np.ones(3, np.uint8)).results[0]) == 3


@pytest.mark.services
def test_a_call_that_waits_while_others_of_its_worker_end_does_not_hang(cluster: None, tmp_path: Path) -> None:
    handles = spawn_actors(Worker, 1, name="test", journal_dir=tmp_path / "notes", num_cpus=0.1, concurrent_calls=8)
    pool = RayPool("test", handles, call_timeout_s=4)
    started, release = tmp_path / "started", tmp_path / "release"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.run, Worker.hold, str(started), str(release))
        while not waiting.done() and time.monotonic() < _begun_s(started) + 10:
            pool.run(Worker.pid)
        release.touch()
        waiting.result(60)


@pytest.mark.services
def test_a_call_that_hangs_while_others_of_its_worker_end_is_still_detected(cluster: None, tmp_path: Path) -> None:
    handles = spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1, concurrent_calls=2)
    pool = RayPool("test", handles, call_timeout_s=2)
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(pool.run, Worker.hang)
        while not hanging.done():
            with contextlib.suppress(WorkerLostError):
                pool.run(Worker.pid)
        with pytest.raises(WorkerLostError) as caught:
            hanging.result()
    assert caught.value.hung


@pytest.mark.services
def test_a_hanging_call_of_a_dead_caller_is_detected_by_those_queued_behind_it(cluster: None, tmp_path: Path) -> None:
    handles = spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1)
    abandoned = start_call(handles[0], "of a lane that died", "hang", 1, (), carrier="")
    pool = RayPool("test", handles, call_timeout_s=1)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.run, Worker.pid)
        try:
            with pytest.raises(WorkerLostError) as caught:
                waiting.result(60)
        finally:
            ray.kill(handles[0], no_restart=False)
    del abandoned
    assert not caught.value.blamed
    assert not caught.value.hung


@pytest.mark.services
def test_a_call_that_hangs_is_left_to_its_caller_while_that_one_lives(cluster: None, tmp_path: Path) -> None:
    """Only its caller knows that the batch has to be split immediately."""
    handles = spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1)
    patient, hasty = (RayPool("test", handles, call_timeout_s=seconds) for seconds in (3, 2))
    hasty.run(Worker.pid)
    with ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(patient.run, Worker.hang)
        while not any(usage.calls for usage in patient.usage().values()):
            time.sleep(0.01)
        time.sleep(0.3)  # it has been sent
        waiting = threads.submit(hasty.run, Worker.pid)
        with pytest.raises(WorkerLostError) as hung:
            hanging.result(60)
        with pytest.raises(WorkerLostError) as waited:
            waiting.result(60)
    assert (hung.value.hung, hung.value.blamed) == (True, True)
    assert (waited.value.hung, waited.value.blamed) == (False, False)


@pytest.mark.services
def test_a_call_may_wait_long_for_a_worker_that_makes_progress(cluster: None, tmp_path: Path) -> None:
    pool = RayPool("test", spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1), call_timeout_s=1)
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(pool.run, Worker.work_for, 0.4) for _ in range(12)]
        assert len({pool.fetch(call.result(60).results[0]) for call in calls}) == 1


def _begun_s(note: Path) -> float:
    """Returns the monotonic time at which a call wrote its file; the present time, if it has not."""
    age_s = time.time() - note.stat().st_mtime if note.exists() else 0.0
    return time.monotonic() - age_s


@pytest.mark.services
def test_a_worker_whose_first_restarts_fail_returns_later(cluster: None, tmp_path: Path) -> None:
    away = tmp_path / "away"
    handles = spawn_actors(
        partial(LateStarter, away=away), 1, name="test", journal_dir=tmp_path / "notes", num_cpus=0.1
    )
    pool = RayPool("test", handles, call_timeout_s=60)
    first = pool.fetch(pool.run(Worker.pid).results[0])
    away.touch()
    with ThreadPoolExecutor(1) as threads:
        dying = threads.submit(pool.run, Worker.die)
        with pytest.raises(TimeoutError):
            dying.result(3)  # its restarts fail during that time
        away.unlink()
        with pytest.raises(WorkerLostError) as caught:
            dying.result(60)
    assert caught.value.blamed
    assert pool.fetch(pool.run(Worker.pid).results[0]) != first
