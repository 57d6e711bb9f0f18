"""Threads that run only while a test steps them, and the faults with which it does."""

from __future__ import annotations

import threading
from collections.abc import Callable

# What a step can do to the request before which a thread pauses.
BEFORE, AFTER, HALF, REFUSED, LOST, LOST_AFTER, SPOILED = (
    "before", "after", "half", "refused", "lost", "lost after", "spoiled"
)  # fmt: skip
FAULTS = ("", "", "", BEFORE, AFTER, HALF, REFUSED, LOST, LOST_AFTER)
_ABANDON = "abandon"
_current = threading.local()
planned_faults: dict[str, str] = {}
"""The fault of the next pause of a name."""


class AbandonedError(BaseException):
    """Ends a thread whose process died; nothing in the code under test catches it."""


class SteppedThread:
    """A thread that runs only while it is stepped."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.at = "start"
        self.ended = False
        self._work = work
        self._fault = ""
        self._error: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def step(self, fault: str = "") -> None:
        """Runs it to its next pause, or to its end. Raises the error that ended it."""
        if self.ended:
            return
        self._fault = fault
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        while not self.ended:
            self.step(_ABANDON)

    def pause(self, at: str) -> str:
        """Gives control back to the test, from within the thread; returns the fault of the next step."""
        self.at = at
        self._back.release()
        self._go.acquire()
        if self._fault == _ABANDON:
            raise AbandonedError
        return self._fault or planned_faults.pop(at, "")

    def _run(self) -> None:
        _current.thread = self
        self._go.acquire()
        try:
            if self._fault != _ABANDON:
                self._work()
        except AbandonedError:
            pass
        except BaseException as exc:
            self._error = exc
        finally:
            self.ended = True
            self._back.release()


def current_thread() -> SteppedThread | None:
    """Returns the stepped thread that calls; None in any other."""
    return getattr(_current, "thread", None)


def pause(at: str) -> str:
    """Pauses the calling thread if it is stepped, and returns the fault with which it continues."""
    thread = current_thread()
    return thread.pause(at) if thread else ""
