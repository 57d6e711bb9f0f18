"""The error tree of Penstock.

    PenstockError
    ├── UsageError                   the caller's mistake: a bad flag, query, filter or setting; nothing was changed
    │   ├── ActiveGroupError         offsets of a group that has members are to be set   (broker.group_offsets)
    │   ├── ConfigError              a setting that cannot be used, named with its value
    │   ├── ForeignTopicsError       topics that do not hold the offsets of a backup       (backup.restoring)
    │   ├── IndexNotEmptyError       a restore into an index that has rows                 (backup.restoring)
    │   ├── InvalidTokenError        a token that is not valid here                        (auth.oidc)
    │   ├── NewerBackupError         a backup of a newer Penstock                           (backup.manifest)
    │   ├── QueryError               a search request that cannot be answered as written (HTTP 4xx)
    │   ├── UnauthenticatedError     a request without valid credentials (HTTP 401)
    │   └── ForbiddenError           credentials that do not permit the request (HTTP 403)
    ├── PermanentError               no retry can help: the event becomes a dead letter
    │   ├── BadInputError            the media or its description is at fault; carries the `Reason`
    │   ├── DamagedBackupError       a part of a backup is missing, or has another hash     (backup.manifest)
    │   ├── MessageTooLargeError     a message exceeds the limit of its topic or broker       (broker.base)
    │   └── MissingAssetError        the asset store has no media of that hash                (assets)
    ├── TransientError               a retry may help: pause, back off with jitter, continue
    │   ├── UnavailableError         a broker, store, worker or host does not answer
    │   │   └── CommitDeniedError    the group may not commit for some topics             (broker.base)
    │   ├── RetryableFetchError      a claim check failed in a way that a retry may cure      (media.claim_check)
    │   ├── EndpointError            the endpoint of a generator gave no usable response   (query.generate)
    │   ├── GeneratorError           a generator wrote no answer                          (query.generate)
    │   │   └── GeneratorCutError    its answer ended before it was complete           (query.generate)
    │   ├── RewriteError             a generator gave no rewriting of a question that may be used (query.understand)
    │   ├── WorkerLostError          the process that ran a step died; the batch restarts from its records
    │   ├── WorkerBrokenError        this process can never run its step again, as its device is lost; restart it
    │   ├── NotReadyError            a restarted writer does not know the assignments
    │   │   └── UnconfirmedError     the lease of the driver is not confirmed to the writer
    │   ├── FencedError              this lane no longer owns the partition; its work on it is dropped
    │   └── OverloadedError          too many requests; carries how long to wait
    │       └── LimitedError         beyond the limits of the caller or the tenant   (serve.limits.admission)
    ├── CollapsedError               training mapped its vectors to a few directions        (train.adversarial)
    ├── LeaseHeldError               another driver ingests for this consumer group
    └── StartInterruptedError        a stop was requested while a service was starting        (embedded.services)

    StoppedError                     ends a batch of a lane that stops; never leaves the lane (ingest.pipeline)
    StoppedFillError                 ends a fill whose plane stops; never leaves the package   (ingest.reindex)
    ClientGoneError                  no client reads an answer any more; never leaves the routes (serve.event_stream)
    TooManyReadsError                the type of media takes too many reads to see    (serve.use_cases.partial_bytes)
    TokenRefusedError                no token for Kafka; ends in kafka-python's login         (broker.oauth)
    UnsatisfiableRangeError          a range begins after the last byte; becomes HTTP 416     (serve.byte_ranges)

The last column is the module that defines an error, if it is not this one. A message says what was done, to what, and
what to do next. Exceptions of libraries are translated once, in the adapter that calls them, with `raise … from exc`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """The reason why an event became a dead letter: a closed list that metrics, `deadletters list` and docs share."""

    MALFORMED = "malformed"  # not a CloudEvent though it says so, attributes that are no JSON object…
    WRONG_TOPIC = "wrong_topic"  # media of another modality than the topic's
    UNSUPPORTED = "unsupported"  # a type that no decoder supports
    CORRUPT = "corrupt"  # of a supported type, but it cannot be decoded
    TOO_LARGE = "too_large"  # more bytes or pixels than the limits allow
    FORBIDDEN = "forbidden"  # a claim check that no rule allows, another tenant's topic, a forged replay, a false clock
    UNREACHABLE = "unreachable"  # a claim check that could not be fetched within its deadline
    ENCODER_FAILED = "encoder_failed"  # the encoder fails on this item alone and every time
    REFUSED = "refused"  # the store permanently rejects the entries of this item
    CRASHES_WORKER = "crashes_worker"  # three workers crashed on it while a known-good item passed in between


class PenstockError(Exception):
    """The base of all errors that Penstock raises on purpose. All of them travel between processes by pickle."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[PenstockError], args: tuple[Any, ...], state: dict[str, Any]) -> PenstockError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(PenstockError):
    """The request cannot be carried out as it is; nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is missing, malformed or does not fit the others."""


class QueryError(UsageError):
    """A search request that is invalid in itself.

    Args:
        message: what is wrong and how to correct it.
        status: the corresponding HTTP status (RFC 9110).
        field: the request field at fault, as a JSON pointer, if there is one.
    """

    def __init__(self, message: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class UnauthenticatedError(UsageError):
    """The request has no credentials, or invalid ones. The message says nothing of how they are invalid.

    Args:
        message: what to send.
        has_credentials: whether the request had any.
    """

    def __init__(self, message: str, *, has_credentials: bool) -> None:
        super().__init__(message)
        self.has_credentials = has_credentials


class ForbiddenError(UsageError):
    """The credentials do not permit the request. The message never says whether what it names exists."""


class PermanentError(PenstockError):
    """No retry can help."""


class BadInputError(PermanentError):
    """The media or its description is at fault; its event becomes a dead letter with this reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(PenstockError):
    """A retry may help; such an error alone never causes a dead letter."""

    exit_code = 3


class UnavailableError(TransientError):
    """A dependency does not answer."""


class WorkerLostError(TransientError):
    """The worker that ran a step died before it returned.

    Args:
        message: which worker, during what.
        blamed: whether it is known to have died while it ran this very call, not another one.
        hung: whether it was killed because it ran this call for too long.
        starved: whether it was killed while it ran this call because its node ran out of memory. Which process had used
            the memory is not known.
    """

    def __init__(self, message: str, *, blamed: bool = False, hung: bool = False, starved: bool = False) -> None:
        super().__init__(message)
        self.blamed = blamed
        self.hung = hung
        self.starved = starved


class WorkerBrokenError(TransientError):
    """Nothing will work in this process again, for example after CUDA lost its context. Its host ends the process."""


class NotReadyError(TransientError):
    """The writer waits for the assignments after a restart, or for the driver's lease; retry the batch soon."""


class UnconfirmedError(NotReadyError):
    """The writer waits for a confirmation of the driver's lease, which says nothing about the store."""


class LeaseHeldError(PenstockError):
    """Another driver holds the lease of this consumer group; this one must not write."""

    exit_code = 4


class FencedError(TransientError):
    """The partition now belongs to another lane, or to this one by a newer assignment."""


class OverloadedError(TransientError):
    """The queue or pool is full.

    Args:
        message: what is full.
        retry_after_s: seconds to wait before a retry.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def first_line(exc: BaseException) -> str:
    """Returns the class of an error and the first line of its message, for messages of one line."""
    text = str(exc).strip()
    return f"{type(exc).__name__}: {text.splitlines()[0]}" if text else type(exc).__name__
