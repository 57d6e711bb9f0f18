"""Keeps embedded servers and planes running, and reports what happens to them.

Both are processes that die with this one. `embedded.supervisor` says why an embedded server has a thread.
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

from penstock.errors import ConfigError, LeaseHeldError, PenstockError, UnavailableError
from penstock.processes import Child
from penstock.retries import Backoff

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_JOIN_S = 30.0  # for a server that is still starting at the stop; it dies with this process anyway
_PLANE_START_TIMEOUT_S = 300.0  # 15 s on two idle cores, 65 s on busy ones; models may have to be downloaded
_COMPLAINT = "penstock: "  # the prefix of `cli.main` before an expected error
_REFUSALS: tuple[type[PenstockError], ...] = (ConfigError, LeaseHeldError)
_RESTARTS = Backoff(initial_s=1.0, max_s=30.0)
_STABLE_AFTER_S = 60.0  # a service that lived longer starts again with the shortest wait

ServiceState: TypeAlias = Literal["starting", "ready", "external", "died", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A change of one service, for display.

    Attributes:
        service: its name.
        state: its state after the change.
        detail: its address once ready, else a few words.
        seconds: how long the start took, once it is ready.
    """

    service: str
    state: ServiceState
    detail: str = ""
    seconds: float | None = None


StatusListener: TypeAlias = Callable[[ServiceStatus], None]


class StartInterruptedError(PenstockError):
    """A stop was requested while services were still starting."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """The functions by which a host runs an embedded server.

    Attributes:
        start: starts it and returns its address once it answers; may be called again after `stop`.
        stop: ends it, if it runs.
        alive: whether it runs.
    """

    start: Callable[[], str]
    stop: Callable[[], None]
    alive: Callable[[], bool]


class RestartBackoff:
    """Waits before restarts: they double from a second to half a minute, and start over after a minute of life."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaths = 0
        self._started_at = clock()

    def record_start(self) -> None:
        """Records that the process was started."""
        self._started_at = self._clock()

    def record_death(self) -> float:
        """Records that the process died, and returns the seconds to wait before the next start."""
        if self._clock() - self._started_at > _STABLE_AFTER_S:
            self._deaths = 0
        self._deaths += 1
        return _RESTARTS.wait_s(self._deaths)


class ServiceHost:
    """Runs an embedded server in a thread of its own, and restarts it whenever it dies.

    Args:
        name: for reports and messages.
        server: not started yet.
        restart: False for a server whose address would change: its death is then an error, raised by `check`.
        report: called with each change.
    """

    def __init__(self, name: str, server: EmbeddedServer, report: StatusListener, *, restart: bool = True) -> None:
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
        """Raises `UnavailableError` if the server is gone and will not be restarted."""
        if self._ended is not None:
            raise self._ended

    def stop(self) -> None:
        """Stops the server and waits for its thread."""
        self._report(ServiceStatus(self._name, "stopping"))
        self._stop.set()
        self._thread.join(_JOIN_S)
        self._report(ServiceStatus(self._name, "stopped"))

    def _run(self) -> None:
        backoff = RestartBackoff()
        try:
            self._first.set_result(self._start())
        except BaseException as exc:
            self._first.set_exception(exc)
            return
        while not self._stop.wait(_POLL_S):
            if not self._server.alive():
                if not self._restart:
                    self._ended = UnavailableError(f"{self._name} died; start `penstock up` again: nothing was lost")
                self._report(ServiceStatus(self._name, "died"))
                if not self._restart:
                    return
                self._restart_until_ready(backoff)
        self._server.stop()

    def _start(self) -> str:
        self._report(ServiceStatus(self._name, "starting"))
        began = time.monotonic()
        address = self._server.start()
        self._report(ServiceStatus(self._name, "ready", address, time.monotonic() - began))
        return address

    def _restart_until_ready(self, backoff: RestartBackoff) -> None:
        while not self._stop.wait(backoff.record_death()):
            try:
                self._server.stop()  # releases what a dead server left open
                self._start()
            except PenstockError as exc:
                logger.warning("%s could not be restarted: %s", self._name, exc)
            else:
                backoff.record_start()
                return


class PlaneProcess:
    """Runs a plane in a process of its own, and restarts it whenever it dies. Used from one thread that does not end.

    Args:
        name: for reports and messages.
        argv: the command that runs it.
        log: the file for its output.
        environment: of the process, with the resolved settings.
        address: its URL; empty if it has none.
        ready: returns whether it works; called often.
        stop_timeout_s: for an orderly end.
        report: called with each change.
        needed: returns whether it is restarted once it has ended.
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
        report: StatusListener,
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._name = name
        self._needed = needed
        self._argv = tuple(argv)
        self._log = log
        self._environment = environment
        self._address = address
        self._ready = ready
        self._stop_timeout_s = stop_timeout_s
        self._report = report
        self._backoff = RestartBackoff()
        self._child: Child | None = None
        self._began = 0.0
        self._start_at: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None unless it runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> None:
        """Starts the process; `wait` returns once it works."""
        self._report(ServiceStatus(self._name, "starting"))
        self._backoff.record_start()
        self._began = time.monotonic()
        self._child = Child(f"the {self._name} plane", self._argv, log=self._log, env=self._environment)

    def wait(self, stop: threading.Event) -> None:
        """Returns once the plane works.

        Raises:
            ConfigError, LeaseHeldError: it ended because of its settings, or because another plane ingests.
            UnavailableError: it ended otherwise, or took too long; quotes its log.
            StartInterruptedError: `stop` was set first.
        """
        assert self._child is not None

        def is_ready() -> bool:
            if stop.is_set():
                raise StartInterruptedError(f"stopped while the {self._name} plane was starting")
            return self._ready()

        try:
            self._child.wait_until(is_ready, timeout_s=_PLANE_START_TIMEOUT_S)
        except UnavailableError as exc:
            raise self._refusal() or exc from exc
        self._report(ServiceStatus(self._name, "ready", self._address, time.monotonic() - self._began))

    def _refusal(self) -> PenstockError | None:
        """Returns the error of a plane that refused to start, without the log around it; None if it ended otherwise."""
        assert self._child is not None
        _, complaint, message = self._log.read_text(errors="replace").rstrip().rpartition(_COMPLAINT)
        refusal = next((error for error in _REFUSALS if error.exit_code == self._child.exit_code), None)
        return refusal(message) if refusal is not None and complaint else None

    def keep_alive(self) -> None:
        """Restarts the process if it has died, is needed and its wait is over. Never blocks."""
        if self._child is None:
            return
        if self._start_at is None:
            if self.pid is None and not self._needed():
                self._child = None
                self._report(ServiceStatus(self._name, "stopped"))
            elif self.pid is None:
                wait_s = self._backoff.record_death()
                self._report(ServiceStatus(self._name, "died", f"restarts in {wait_s:.0f} s; its log: {self._log}"))
                self._start_at = time.monotonic() + wait_s
        elif time.monotonic() >= self._start_at:
            self._start_at = None
            self.start()

    def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL if it does not end in time."""
        if self._child is not None:
            self._report(ServiceStatus(self._name, "stopping"))
            self._child.stop(timeout_s=self._stop_timeout_s)
            self._report(ServiceStatus(self._name, "stopped"))
