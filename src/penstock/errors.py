"""One tree of errors.

    PenstockError
    ├── UsageError               the caller's mistake: a bad flag, query, filter or setting; nothing was changed
    │   ├── ConfigError          a setting that cannot be used, named with its value
    │   └── QueryError           a search request that cannot be answered as written (HTTP 4xx)
    ├── PermanentError           trying again cannot help: the event becomes a dead letter
    │   └── BadInputError        the media itself is at fault; carries the `Reason`
    └── TransientError           trying again may help: pause, back off with jitter, go on
        ├── UnavailableError     a broker, store, worker or host does not answer
        ├── WorkerLostError      the process that ran a step died; the batch restarts from its records
        ├── WorkerBrokenError    this process can never do its step again: its device is lost; it has to be restarted
        ├── NotReadyError        a writer that was restarted does not know yet which lane owns what
        ├── FencedError          this lane no longer owns the partition; what it holds of it is dropped
        └── OverloadedError      too much at once; carries how long to wait

A message says what was being done, to what, and what to do next. Vendors' exceptions are translated once, in the
adapter that calls them, with `raise … from exc`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why an event became a dead letter: the closed list that metrics, `deadletters list` and the docs share."""

    MALFORMED = "malformed"  # not a CloudEvent though it says so, attributes that are no JSON object…
    WRONG_TOPIC = "wrong_topic"  # media of another modality than the topic's
    UNSUPPORTED = "unsupported"  # a type that no decoder reads
    CORRUPT = "corrupt"  # of a known type, but it does not decode
    TOO_LARGE = "too_large"  # more bytes or pixels than the limits allow
    FORBIDDEN = "forbidden"  # a claim check to a path, host or scheme that the settings refuse
    UNREACHABLE = "unreachable"  # a claim check that could not be fetched within its deadline
    ENCODER_FAILED = "encoder_failed"  # the encoder fails on this item alone, every time
    REFUSED = "refused"  # the store refuses the entries of this item for good
    CRASHES_WORKER = "crashes_worker"  # three workers died of it while a known-good item passed in between


class PenstockError(Exception):
    """Base of every error that Penstock raises on purpose. All of them travel between processes by pickle."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[PenstockError], args: tuple[Any, ...], state: dict[str, Any]) -> PenstockError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(PenstockError):
    """What was asked for cannot be done as asked; nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is missing, malformed or does not fit the others."""


class QueryError(UsageError):
    """A search request that is wrong in itself.

    Args:
        message: what is wrong and how to put it right.
        status: the HTTP status that says the same (RFC 9110).
        field: the request field at fault, as a JSON pointer, if there is one.
    """

    def __init__(self, message: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class PermanentError(PenstockError):
    """Trying again cannot help."""


class BadInputError(PermanentError):
    """The media or its description is at fault; its event becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(PenstockError):
    """Trying again may help; never the cause of a dead letter by itself."""

    exit_code = 3


class UnavailableError(TransientError):
    """Something that is needed does not answer."""


class WorkerLostError(TransientError):
    """The worker that ran a step died before it answered.

    Args:
        message: which worker, during what.
        blamed: whether it is known to have died while it worked on this very call, not on another one.
        hung: whether it was killed because it worked on this call for too long.
        starved: whether it was killed while it worked on this call because its node ran out of memory; whose memory
            that was is not known.
    """

    def __init__(self, message: str, *, blamed: bool = False, hung: bool = False, starved: bool = False) -> None:
        super().__init__(message)
        self.blamed = blamed
        self.hung = hung
        self.starved = starved


class WorkerBrokenError(TransientError):
    """Nothing will work in this process again, such as after CUDA lost its context. Its host ends the process."""


class NotReadyError(TransientError):
    """The writer was restarted and waits for the assignments; the batch is worth trying again soon."""


class FencedError(TransientError):
    """The partition now belongs to another lane, or to this one by a newer assignment."""


class OverloadedError(TransientError):
    """Too much at once.

    Args:
        message: what is full.
        retry_after_s: seconds to wait before trying again.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
