"""Decides whether the ingest plane is ready, and publishes that with its status at every turn of the monitor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, replace

from penstock.assembly import open_store
from penstock.broker.base import Partition
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.ingest.holds import Holds, Why
from penstock.ingest.status import PlaneState, PlaneStatus, write_status
from penstock.observability.health import LIVE_FOR_MS, Health, read_health, remove_ended, write_health

logger = logging.getLogger(__name__)

_PING_EVERY_S = 2.0
_REPEAT_S = 5.0  # half of what a readiness is trusted for
# A store that hangs is noticed before its ping's timeout (5 s): with the interval and the monitor's turn in 7 s, of 10.
_ANSWERS_WITHIN_S = 4.0


class StoreProbe:
    """Pings the store, since lanes notice that it is gone only when they have something to write.

    Args:
        ping: returns if the store answers; raises `PenstockError` otherwise.
        stopping: ends the thread.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ping: Callable[[], None],
        stopping: threading.Event,
        *,
        interval_s: float = _PING_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ping = ping
        self._stopping = stopping
        self._interval_s = interval_s
        self._clock = clock
        self._holds = Holds(clock)
        self._thread = threading.Thread(target=self._run, name="store-probe", daemon=True)
        self._error = ""
        self._pinged_s: float | None = None  # the ping that has not ended yet

    @property
    def error(self) -> str:
        """Returns why the store does not answer; empty if it does."""
        pinged_s = self._pinged_s
        if not self._error and pinged_s is not None and self._clock() - pinged_s > _ANSWERS_WITHIN_S:
            return f"the store has not answered a ping for {_ANSWERS_WITHIN_S:.0f} s"
        return self._error

    @property
    def held(self) -> Mapping[str, str]:
        """Returns the hold of a store that does not answer, as `Holds.reasons` does; empty while it answers."""
        error = self.error
        return {Why.STORE.value: error} if error else {}

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.probe()

    def probe(self) -> None:
        """Pings one time."""
        self._pinged_s = self._clock()
        try:
            self._ping()
            self._error = ""
        except PenstockError as exc:
            self._error = str(exc)
        except Exception as exc:  # whatever it is, the store did not answer
            logger.exception("store probe: unexpected error; continuing")
            self._error = f"unexpected {type(exc).__name__}: {exc}"
        finally:
            self._pinged_s = None
        self._holds.update({(Why.STORE, ""): self._error})


def store_probe(settings: Settings, stopping: threading.Event) -> StoreProbe:
    """Returns a probe of the configured store, which connects at the first ping."""
    store = open_store(settings.store)
    return StoreProbe(store.ping, stopping)


def unready_reasons(status: PlaneStatus, *, expected_lanes: int, partitions: Set[Partition] | None) -> Iterator[str]:
    """Yields why the plane does not ingest everything as it should; nothing if it does.

    Args:
        status: of the plane.
        expected_lanes: the lanes that should answer.
        partitions: of the consumed topics; None if they are unknown.
    """
    if status.state is not PlaneState.RUNNING:
        yield f"the ingest plane is {status.state}"
        return
    if status.lanes < expected_lanes:
        yield f"{expected_lanes - status.lanes} of {expected_lanes} lanes do not answer"
    owned = {name for names in status.assignments.values() for name in names}
    if missing := sorted({str(partition) for partition in partitions or ()} - owned):
        yield f"{len(missing)} partitions are assigned to no lane, {missing[0]} among them"
    elif not owned:
        yield "no partition is assigned to a lane"
    for name, reason in status.held.items():
        yield f"{name}: {reason}"


class Publisher:
    """Publishes the status and the health of a plane. A folder that refuses them is a warning, once a state.

    The plane works without these files, and it ends its actors and releases its lease without them.

    Args:
        settings: of the plane.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._warned: PlaneState | None = None

    def remove_ended(self) -> None:
        """Removes the health of planes of this data folder that no longer run, whatever their group was."""
        with self._warning(PlaneState.STARTING):
            remove_ended(self._settings.metrics_dir, time.time_ns() // 1_000_000)

    def publish(self, status: PlaneStatus, reasons: Sequence[str]) -> None:
        """Writes the status for commands on this node, and the health for the node's endpoint."""
        with self._warning(status.state):
            write_status(self._settings.data_dir, self._settings.kafka.group, status)
        with self._warning(status.state):
            publish_health(self._settings, status, reasons)

    def stand_by(self, status: PlaneStatus) -> None:
        """Writes that this driver waits for the lease."""
        with self._warning(PlaneState.STANDBY):
            publish_standby(self._settings, status)

    @contextmanager
    def repeating(self, status: PlaneStatus, reasons: Sequence[str], *, every_s: float = _REPEAT_S) -> Iterator[None]:
        """Publishes a status now, and again with the time of then, for as long as the caller is within."""
        left = threading.Event()

        def repeat() -> None:
            while not left.wait(every_s):
                try:
                    self.publish(replace(status, updated_ms=time.time_ns() // 1_000_000), reasons)
                except Exception:  # whatever it is, the driver would look stuck without the next one
                    logger.exception("unexpected error while health was published; continuing")

        self.publish(status, reasons)
        thread = threading.Thread(target=repeat, name="repeated-health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()

    @contextmanager
    def _warning(self, state: PlaneState) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if state is not self._warned:
                logger.warning("status and health of the %s ingest plane cannot be written: %s", state, exc)
            self._warned = state


def publish_health(settings: Settings, status: PlaneStatus, reasons: Sequence[str]) -> None:
    """Writes the health for the node's endpoint.

    Raises:
        OSError: it cannot be written.
    """
    live_for_ms = 0 if status.state is PlaneState.STOPPED else LIVE_FOR_MS
    updated_ms, group = status.updated_ms, settings.kafka.group
    health = Health(group, status.state, list(reasons), updated_ms, updated_ms + live_for_ms, asdict(status))
    write_health(settings.metrics_dir, health)


def publish_standby(settings: Settings, status: PlaneStatus) -> None:
    """Writes that a driver waits for the lease: live, and not ready.

    The health of another driver of the group on this node stays, for as long as that driver is live.

    Raises:
        OSError: it cannot be written.
    """
    present = read_health(settings.metrics_dir, settings.kafka.group)
    if present is None or present.live_until_ms < status.updated_ms or present.status.get("pid") == status.pid:
        waiting = replace(status, state=PlaneState.STANDBY)
        publish_health(settings, waiting, ["another driver ingests for this consumer group, and this one stands by"])
