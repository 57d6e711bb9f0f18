"""An ingest plane in a process of its own, as a test sees it: alive or dead, its actors by name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from penstock.broker.topics import group_lag
from penstock.config import Settings, to_environment
from penstock.embedded.ray import ray_environment
from penstock.errors import UnavailableError
from penstock.ingest.status import PlaneStatus, read_status
from penstock.processes import Child
from tests.faults.ground import Ground
from tests.faults.switches import Switches

START_S = 120.0
SETTLE_S = 120.0
_STOP_S = 45.0


def eventually(holds: Callable[[], Any], condition: str, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"did not hold within {timeout_s:.0f} s: {condition}"
        time.sleep(0.05)


class PlaneProcess:
    """A driver with its actors. Faults are armed through `switches`."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        self.ground = ground
        self.settings = settings
        self.folder = settings.data_dir / "faults"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.switches = Switches(self.folder)
        self.log = settings.data_dir / "driver.log"
        self._child: Child | None = None

    # ---- life ----

    def start(self) -> None:
        """Returns when it takes events in."""
        self.launch()
        self.await_running()

    def launch(self) -> None:
        """Starts the driver, which may have to wait for the lease of another one."""
        (self.folder / "running").unlink(missing_ok=True)
        (self.folder / "pids.json").unlink(missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment = {**kept, **to_environment(self.settings), **ray_environment(self.ground.folder)}
        command = [sys.executable, "-m", "tests.faults.driver", str(self.folder)]
        self._child = Child("the ingest plane", command, log=self.log, env=environment)

    def await_running(self) -> None:
        assert self._child is not None
        self._child.wait_until((self.folder / "running").exists, timeout_s=START_S)

    def await_exit(self, timeout_s: float = _STOP_S) -> int:
        """Returns the driver's exit code once it has ended."""
        assert self._child is not None
        eventually(lambda: not self._alive, f"the driver ends; {self.log} says why not", timeout_s)
        code = self._child.exit_code
        assert code is not None
        return code

    def terminate(self) -> int:
        """SIGTERM to the driver; its exit code once it has drained."""
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGTERM)
        return self.await_exit()

    def kill_driver(self) -> None:
        """SIGKILL. Ray ends its actors."""
        assert self._child is not None
        self._child.kill()

    def close(self) -> None:
        """For the end, however it went."""
        if self._child is not None and self._alive:
            self._child.stop(timeout_s=_STOP_S)

    @property
    def driver_pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def _alive(self) -> bool:
        return self._child is not None and self._child.alive

    # ---- its actors ----

    def pids(self) -> Mapping[str, int]:
        try:
            pids: dict[str, int] = json.loads((self.folder / "pids.json").read_text())
        except FileNotFoundError:
            return {}
        return pids

    def pid(self, name: str) -> int:
        """Of an actor that lives now."""
        eventually(lambda: name in self.pids() and psutil.pid_exists(self.pids()[name]), f"{name} lives")
        return self.pids()[name]

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to an actor's process; its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def kill(self, name: str) -> None:
        """SIGKILL to an actor's process; returns when it is gone."""
        pid = self.signal(name, signal.SIGKILL)
        eventually(lambda: not _runs(pid), f"{name} is gone")

    def resize_lanes(self, count: int) -> None:
        """Has lanes join or leave; returns when the remaining lanes own all partitions."""
        request = self.folder / "lanes.new"
        request.write_text(str(count))
        request.replace(self.folder / "lanes")  # in one step: the driver must not read half of it, which is nothing
        self.await_balance(count)

    def await_balance(self, lanes: int) -> None:
        """Returns when exactly `lanes` lanes own partitions, and none is owned twice.

        Until then the committed offset of a partition may go back for a moment: its new owner starts where the previous
        one had last committed.
        """
        expected = {f"lane-{number}" for number in range(lanes)}

        def shared() -> bool:
            owned = self.status().assignments
            named = [partition for partitions in owned.values() for partition in partitions]
            return owned.keys() == expected and all(owned.values()) and len(named) == len(set(named))

        eventually(shared, f"{lanes} lanes share the partitions")

    # ---- how far it is ----

    def status(self) -> PlaneStatus:
        status = read_status(self.settings.data_dir, self.settings.kafka.group)
        assert status is not None
        return status

    def settled(self) -> int:
        """Events settled since the driver started."""
        return sum(count for by_outcome in self.status().outcomes.values() for count in by_outcome.values())

    def lag(self) -> int:
        kafka = self.settings.kafka
        topics = [kafka.topic_of(modality) for modality in self.settings.ingest.modalities]
        return sum(partition.lag for partition in group_lag(kafka, topics))

    def settle(self) -> None:
        """Waits until everything produced is settled and committed."""

        def all_settled() -> bool:
            try:
                return self.lag() == 0
            except UnavailableError:  # a broker that has just come back does not know the group's offsets yet
                return False

        eventually(all_settled, f"all is settled; {self.log} says why not", SETTLE_S)

    def log_of(self, name: str) -> str:
        """Returns the log of the process of a living actor."""
        logs = self.ground.ray.temp_dir.glob(f"session_latest/logs/worker-*-{self.pid(name)}.err")
        return "".join(path.read_text(errors="replace") for path in logs)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
