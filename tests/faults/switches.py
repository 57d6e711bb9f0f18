"""Faults that are switched on from outside a process: files in a folder, read where the fault is to happen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.01


@dataclass(frozen=True)
class Switches:
    """Named switches. Picklable: the workers that misbehave get a copy, the folder is what they share."""

    folder: Path

    # ---- the test's side ----

    def on(self, name: str, times: int = 1) -> None:
        """Arms a switch; `take` succeeds `times` times."""
        for number in range(times):
            (self.folder / f"{name}.{number}").touch()

    def hold(self, name: str) -> None:
        """Makes every caller of `wait_while_held` stop there until `release`."""
        (self.folder / f"{name}.held").touch()

    def release(self, name: str) -> None:
        (self.folder / f"{name}.held").unlink(missing_ok=True)
        for path in self.folder.glob(f"{name}.waits.*"):
            path.unlink()

    def waiting(self, name: str) -> set[int]:
        """The processes that have come to the hold."""
        return {int(path.suffix[1:]) for path in self.folder.glob(f"{name}.waits.*")}

    def armed(self, name: str) -> bool:
        """Whether `take` has not used the switch up."""
        return any(self.folder.glob(f"{name}.[0-9]*"))

    def under_way(self, name: str) -> bool:
        """Whether a worker is inside a `doing` block."""
        return any(self.folder.glob(f"{name}.doing.*"))

    def noted(self, name: str) -> list[str]:
        """Returns the lines that workers have noted under that name, oldest first."""
        path = self.folder / f"{name}.notes"
        return path.read_text().splitlines() if path.exists() else []

    # ---- the worker's side ----

    def note(self, name: str, line: str) -> None:
        with (self.folder / f"{name}.notes").open("a") as sink:  # a short line is appended in one piece
            sink.write(f"{line}\n")

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        mark = self.folder / f"{name}.doing.{os.getpid()}.{threading.get_ident()}"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()

    def take(self, name: str) -> bool:
        """Uses up one of the times that a switch was armed for; False if none is left."""
        for path in self.folder.glob(f"{name}.[0-9]*"):
            try:
                path.unlink()
            except FileNotFoundError:  # another worker took it
                continue
            return True
        return False

    def wait_while_held(self, name: str) -> None:
        held = self.folder / f"{name}.held"
        if not held.exists():
            return
        (self.folder / f"{name}.waits.{os.getpid()}").touch()
        while held.exists():
            time.sleep(_POLL_S)
