"""Child processes that never outlive their parent, with ports and disk space for them.

As a program this module is the launcher: `python -m penstock.processes <parent pid> <command…>` makes the kernel kill
the process when its parent dies (Linux), then becomes the command. So no code of this package runs between fork and
exec, which is not safe in a process with threads, and a SIGKILL of the parent leaves no processes behind.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock.errors import UnavailableError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.05


class Child:
    """A server process that this process starts and stops.

    Start it from a thread that lives as long as the child should: the kernel kills the child when the thread ends.

    Args:
        name: for messages: "Kafka broker".
        argv: the command.
        log: the file that receives its output; errors quote its end.
        env: its whole environment; None: that of this process.
    """

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock.processes", str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code: None while it runs; minus the number of the signal that ended it, if any."""
        return self._process.poll()

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Waits until `ready` returns True. It is called often and should return within a second.

        Raises:
            UnavailableError: the child ended first, or the time is over; the message quotes the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.alive:
                code = self._process.returncode
                raise UnavailableError(f"{self.name} ended with code {code} while starting. {self._log_tail()}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self.name} was not ready after {timeout_s:.0f} s. {self._log_tail()}")
            time.sleep(_POLL_S)

    def stop(self, *, timeout_s: float = 15.0) -> None:
        """Sends SIGTERM to its process group, and SIGKILL after the timeout. No error if it has ended already."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(timeout_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()

    def kill(self) -> None:
        """Sends SIGKILL to its process group, for tests of crashes."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _log_tail(self, lines: int = 5) -> str:
        tail = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return f"Log {self.log} ends: " + " | ".join(tail) if tail else f"Its log {self.log} is empty."


def free_port() -> int:
    """Returns a TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_bytes(folder: Path) -> int:
    """Returns the free disk space at the folder, which need not exist yet, in bytes."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def listens(host: str, port: int) -> bool:
    """Returns whether a server accepts connections at this address."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def tie_to_parent(parent_pid: int) -> None:
    """Makes the kernel kill this process when the thread that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the line above
            sys.exit(1)


def bound_this_process(*, memory_bytes: int, cpu_s: int) -> None:
    """Limits the address space of this process to what it has now and `memory_bytes` more, and its CPU time (Unix).

    Beyond the memory, allocations fail; beyond the time, the kernel ends the process with `SIGXCPU`.
    """
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(
        resource.RLIMIT_CPU, (cpu_s, cpu_s + 1)
    )  # at the second, it could not be distinguished from other kills
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _become(parent_pid: int, argv: Sequence[str]) -> None:
    """Ties this process to the life of its parent, then replaces it by the command."""
    tie_to_parent(parent_pid)
    os.execvp(argv[0], list(argv))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
