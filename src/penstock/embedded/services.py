"""The two kinds of thing that a supervisor keeps running: an embedded server in a thread of its own, and a plane.

Both are processes that die with this one. See `cli.supervisor` for why an embedded server has a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from penstock.errors import ConfigError, PenstockError, UnavailableError
from penstock.processes import Child

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_JOIN_S = 30.0  # a server that is still starting when all is stopped; it dies with this process anyway
_PLANE_START_TIMEOUT_S = 300.0  # 15 s on two idle cores, 65 s on busy ones; models may have to be downloaded
_COMPLAINT = "penstock: "  # what `cli.main` puts before an expected error
_BACKOFF_MAX_S = 30.0
_STABLE_AFTER_S = 60.0  # what lived so long begins again with the shortest wait

State: TypeAlias = Literal["starting", "ready", "external", "died", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened to one service: for whoever shows it.

    Attributes:
        service: its name.
        state: what it is now.
        detail: its address once ready, else a few words.
        seconds: how long that took, where it says something.
    """

    service: str
    state: State
    detail: str = ""
    seconds: float | None = None


Report: TypeAlias = Callable[[Progress], None]


class StartInterruptedError(PenstockError):
    """A stop was asked for while things were still starting."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Server:
    """What can be hosted.

    Attributes:
        start: starts it and returns its address once it answers; may be called again after `stop`.
        stop: ends it, if it runs.
        alive: whether it runs.
    """

    start: Callable[[], str]
    stop: Callable[[], None]
    alive: Callable[[], bool]


class Backoff:
    """Waits that double from a second to half a minute, and begin anew after a long life."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 1.0
        self._started_at = clock()

    def started(self) -> None:
        self._started_at = self._clock()

    def died(self) -> float:
        """Seconds to wait before the next start."""
        if self._clock() - self._started_at > _STABLE_AFTER_S:
            self._next_s = 1.0
        wait_s, self._next_s = self._next_s, min(self._next_s * 2, _BACKOFF_MAX_S)
        return wait_s


class Host:
    """An embedded server, started again whenever it dies, by a thread that lives as long as the server should.

    Args:
        name: for reports and messages.
        server: not started yet.
        restart: False for a server whose address would change: its death is then an error, raised by `check`.
        report: told of each change.
    """

    def __init__(self, name: str, server: Server, report: Report, *, restart: bool = True) -> None:
        self._name = name
        self._server = server
        self._report = report
        self._restart = restart
        self._first: Future[str] = Future()
        self._ended: PenstockError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"host of {name}", daemon=True)
        self._thread.start()

    def address(self, stop: threading.Event) -> str:
        """Waits for the first start.

        Raises:
            PenstockError: whatever the server raised when it was started.
            StartInterruptedError: `stop` was set first.
        """
        while not stop.is_set():
            try:
                return self._first.result(timeout=_POLL_S)
            except FutureTimeoutError:
                continue
        raise StartInterruptedError(f"stopped while {self._name} was starting")

    def check(self) -> None:
        """Raises `UnavailableError` if the server is gone for good."""
        if self._ended is not None:
            raise self._ended

    def stop(self) -> None:
        self._report(Progress(self._name, "stopping"))
        self._stop.set()
        self._thread.join(_JOIN_S)
        self._report(Progress(self._name, "stopped"))

    def _run(self) -> None:
        backoff = Backoff()
        try:
            self._first.set_result(self._start())
        except BaseException as error:
            self._first.set_exception(error)
            return
        while not self._stop.wait(_POLL_S):
            if not self._server.alive():
                if not self._restart:
                    self._ended = UnavailableError(f"{self._name} died; start `penstock up` again: nothing was lost")
                self._report(Progress(self._name, "died"))
                if not self._restart:
                    return
                self._start_again(backoff)
        self._server.stop()

    def _start(self) -> str:
        self._report(Progress(self._name, "starting"))
        began = time.monotonic()
        address = self._server.start()
        self._report(Progress(self._name, "ready", address, time.monotonic() - began))
        return address

    def _start_again(self, backoff: Backoff) -> None:
        while not self._stop.wait(backoff.died()):
            try:
                self._server.stop()  # what a dead one leaves open
                self._start()
            except PenstockError as error:
                _log.warning("%s could not be started again: %s", self._name, error)
            else:
                backoff.started()
                return


class Plane:
    """A plane in a process of its own, started again whenever it dies. To be used from one lasting thread.

    Args:
        name: for reports and messages.
        argv: the command that runs it.
        log: file that takes its output.
        environment: of the process: the resolved settings are in it.
        address: where it can be reached, if it can be.
        ready: whether it does its work by now; asked often.
        stop_timeout_s: how long it may take to end in order.
        report: told of each change.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        address: str,
        ready: Callable[[], bool],
        stop_timeout_s: float,
        report: Report,
    ) -> None:
        self._name = name
        self._argv = tuple(argv)
        self._log = log
        self._environment = environment
        self._address = address
        self._ready = ready
        self._stop_timeout_s = stop_timeout_s
        self._report = report
        self._backoff = Backoff()
        self._child: Child | None = None
        self._began = 0.0
        self._start_at: float | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> None:
        """Starts the process; `wait` for it to be of use."""
        self._report(Progress(self._name, "starting"))
        self._backoff.started()
        self._began = time.monotonic()
        self._child = Child(f"the {self._name} plane", self._argv, log=self._log, env=self._environment)

    def wait(self, stop: threading.Event) -> None:
        """Returns when the plane does its work.

        Raises:
            UnavailableError: it ended, or took too long; quotes its log.
            StartInterruptedError: `stop` was set first.
        """
        assert self._child is not None

        def is_ready() -> bool:
            if stop.is_set():
                raise StartInterruptedError(f"stopped while the {self._name} plane was starting")
            return self._ready()

        try:
            self._child.wait_until(is_ready, timeout_s=_PLANE_START_TIMEOUT_S)
        except UnavailableError as error:
            raise self._in_its_own_words() or error from error
        self._report(Progress(self._name, "ready", self._address, time.monotonic() - self._began))

    def _in_its_own_words(self) -> ConfigError | None:
        """What a plane said that ended because of the settings, without the log around it."""
        assert self._child is not None
        said = self._log.read_text(errors="replace").rstrip().rpartition(_COMPLAINT)
        return ConfigError(said[2]) if self._child.exit_code == ConfigError.exit_code and said[1] else None

    def keep_alive(self) -> None:
        """Starts the process again if it has died and its wait is over. Never blocks."""
        if self._start_at is None:
            if self.pid is None:
                wait_s = self._backoff.died()
                self._report(Progress(self._name, "died", f"starts again in {wait_s:.0f} s; its log: {self._log}"))
                self._start_at = time.monotonic() + wait_s
        elif time.monotonic() >= self._start_at:
            self._start_at = None
            self.start()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not end in time."""
        if self._child is not None:
            self._report(Progress(self._name, "stopping"))
            self._child.stop(timeout_s=self._stop_timeout_s)
            self._report(Progress(self._name, "stopped"))
