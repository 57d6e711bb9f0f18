"""Pools of Ray actors, pinned to CPUs and GPUs."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.errors import UnavailableError, WorkerBrokenError, WorkerLostError
from penstock.ingest.executor.pool import Call, LeastLoaded, Ref, Usage, call_all, call_timed
from penstock.observability import metrics

logger = logging.getLogger(__name__)

_RESTART_POLL_S = 0.1
_RESTART_TIMEOUT_S = 300.0  # models are loaded again, perhaps on a node that the autoscaler adds first
_ASK_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 30.0  # Ray may have to start a process there first
_RESTART_PAUSE_S = 1.0  # before a restarted worker that could not be made tries again
_TIMES_OF_OTHERS = 2.0  # a living caller, who asks every `call_timeout_s`, has found its call by then
_CONTROL = "control"  # the concurrency group of questions, which must not wait behind the steps
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError, GetTimeoutError)


class RayPool:
    """Ray actors that the plane owns, and how busy they are with this process's calls.

    Args:
        name: for messages: "decode".
        handles: the actors, made by `spawn`.
        call_timeout_s: a call without an answer for so long counts as lost, as does its worker.
    """

    def __init__(self, name: str, handles: Sequence[Any], *, call_timeout_s: float) -> None:
        self._name = name
        self._handles = tuple(handles)
        self._load: LeastLoaded[Any] = LeastLoaded(self._handles)
        self._nodes: dict[Any, str] = {}  # where each actor was when it was last heard of
        self._call_timeout_s = call_timeout_s

    @property
    def size(self) -> int:
        return len(self._handles)

    def put(self, value: object) -> Ref:
        return ray.put(value)

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.acquire() as handle:
            return self._call(handle, method, args, returns)

    def run_on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.track(self._handles[worker]) as handle:
            return self._call(handle, method, args, returns)

    def run_on_all(self, method: str, *args: Any, returns: int = 1) -> Sequence[Call]:
        with ExitStack() as loads:
            handles = [loads.enter_context(self._load.track(handle)) for handle in self._handles]
            return call_all(partial(self._begin, handle, method, args, returns) for handle in handles)

    def fetch(self, ref: Ref) -> Any:
        return self._get(ref, "its result")

    def replace(self, handles: Sequence[Any]) -> None:
        """From now on calls go to these actors; those under way go on where they are.

        The results of an actor that goes are not lost with it: they belong to the process that called it (Ray's
        ownership), and their values lie in that process or in the object store of the node.
        """
        self._handles = tuple(handles)
        self._load.replace(self._handles)
        for gone in self._nodes.keys() - set(handles):
            self._nodes.pop(gone, None)

    def usage(self) -> Mapping[Any, Usage]:
        """This process's calls by actor, those included that were replaced and still have calls under way."""
        return self._load.usage()

    def _call(self, handle: Any, method: str, args: Sequence[Any], returns: int) -> Call:
        return self._begin(handle, method, args, returns)()

    def _begin(self, handle: Any, method: str, args: Sequence[Any], returns: int) -> Callable[[], Call]:
        token, node, started_s = uuid.uuid4().hex, self._node_of(handle), time.perf_counter()
        try:
            refs = handle.call.options(num_returns=1 + returns).remote(token, method, returns, *args)
        except RayError as exc:  # Ray's object store has no room for the arguments, say
            raise UnavailableError(f"{self._name} could not be asked for {method}: {_first_line(exc)}") from exc
        return partial(self._answer, _Asked(handle, node, method, token, refs, started_s))

    def _answer(self, asked: _Asked) -> Call:
        """The first value that the actor returns is small, so that waiting for it fetches no media and no pixels."""
        hung = self._await(asked.handle, asked.token, asked.refs[0])
        try:
            busy_s = self._get(asked.refs[0], asked.method)
        except WorkerLostError as exc:
            with self._load.quarantine(asked.handle, _RESTART_TIMEOUT_S):
                at_work, for_memory = self._last_words(asked.handle, asked.node) == asked.token, _for_memory(exc)
            raise WorkerLostError(
                str(exc), blamed=at_work and not for_memory, hung=hung, starved=at_work and for_memory
            ) from exc
        metrics.BUSY.labels(self._name).inc(busy_s)
        metrics.QUEUE_WAIT.labels(self._name).observe(time.perf_counter() - asked.started_s - busy_s)
        return Call(tuple(asked.refs[1:]), busy_s)

    def _await(self, handle: Any, token: str, ref: Ref) -> bool:
        """Returns once the call has ended, well or not. A worker that hangs on it is killed, and Ray restarts it.

        What the call waits for others does not count: in the queue, or in a writer for their assets (`working_since`).
        But for the one that hangs the worker while the call is in the queue: its caller may be dead, and nobody else
        would ever find it.

        Returns:
            whether it was killed because of this call.
        """
        hung = False
        while not ray.wait([ref], timeout=self._call_timeout_s, fetch_local=False)[0]:
            try:
                since_s, on_it = ray.get(handle.working_since.remote(token), timeout=_ASK_TIMEOUT_S)
            except GetTimeoutError:  # not even that: it is suspended, or holds the interpreter
                since_s, on_it = self._call_timeout_s, True
            except RayActorError:
                break
            if since_s >= self._call_timeout_s * (1.0 if on_it else _TIMES_OF_OTHERS):
                whose = "one call" if on_it else "a call whose caller is gone"
                logger.error("a %s worker hangs on %s for %.0f s and is killed", self._name, whose, since_s)
                ray.kill(handle, no_restart=False)
                hung = hung or on_it
        return hung

    def _node_of(self, handle: Any) -> str:
        """Where the actor lives; asked once, and after each loss."""
        if handle not in self._nodes:
            with self._load.quarantine(handle, _RESTART_TIMEOUT_S):
                self._last_words(handle, "")
        return self._nodes.get(handle, "")

    def _last_words(self, handle: Any, node: str) -> str:
        """Waits until Ray has restarted the actor; the token of the call during which it died on that node, or "".

        Raises:
            UnavailableError: it was not restarted in time.
        """
        deadline_s = time.monotonic() + _RESTART_TIMEOUT_S
        while True:
            try:
                words: CrashRecord = ray.get(handle.ready.remote(), timeout=_RESTART_TIMEOUT_S)
                break
            except (RayActorError, GetTimeoutError) as exc:
                if time.monotonic() > deadline_s:
                    raise UnavailableError(f"no {self._name} worker came back: {_first_line(exc)}") from exc
                time.sleep(_RESTART_POLL_S)
        self._nodes[handle] = words.node
        return words.running_call if node in ("", words.node) else _read_there(node, words)

    def _get(self, ref: Ref, what: str) -> Any:
        """What the worker raised is raised here, where Ray's own error, which holds it, is forgotten: with that one as
        its cause it would keep itself, and with its traceback the batch, in memory.
        """
        try:
            return ray.get(ref, timeout=self._call_timeout_s)
        except _LOST as exc:
            raise WorkerLostError(f"a {self._name} worker was lost during {what}: {_first_line(exc)}") from exc
        except RayTaskError as exc:
            failure: Exception = (
                exc.cause
                if isinstance(exc.cause, Exception)
                else UnavailableError(f"{self._name} failed during {what}: {_first_line(exc)}")
            )
            failure.add_note(str(exc))  # the traceback over there, in words
        except RayError as exc:
            raise UnavailableError(f"Ray failed while {self._name} did {what}: {_first_line(exc)}") from exc
        try:
            raise failure
        finally:
            del failure


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call under way: of which actor, on which node it was then, and the references to what it will return."""

    handle: Any
    node: str
    method: str
    token: str
    refs: Sequence[Ref]
    started_s: float


def _nothing(_name: str) -> None:
    pass


def spawn_actors(
    make: Callable[[int], object],
    size: int,
    *,
    name: str,
    journal_dir: Path,
    num_cpus: float,
    num_gpus: float = 0.0,
    concurrent_calls: int = 1,
    first_number: int = 0,
    on_start: Callable[[str], None] = _nothing,
) -> list[Any]:
    """Starts `size` actors that host the workers, spread over the nodes; Ray restarts those that die, for ever.

    Args:
        make: makes the worker of a number, in its own process; imports what it needs there.
        size: number of actors.
        name: shown in Ray's logs: `decode-0`.
        notes: a folder, of each node its own, where an actor notes what it works on; see `_Host`.
        num_cpus, num_gpus: what each reserves of its node.
        threads: calls that one actor serves at once.
        first: number of the first.
        on_start: called first thing in an actor's process, with `name`.
    """
    options = {
        "scheduling_strategy": "SPREAD",  # so that the loss of a node leaves some of every pool
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "max_restarts": -1,
        "max_task_retries": 0,  # the lane decides what is tried again, and restarts a batch from its records
        "max_concurrency": concurrent_calls,
    }
    host = ray.remote(concurrency_groups={_CONTROL: 2})(_Host)  # type: ignore[call-overload]
    noted = journal_dir if concurrent_calls == 1 else None
    numbers = range(first_number, first_number + size)
    return [
        host.options(**options).remote(make, number, name, noted, on_start, threads=concurrent_calls)
        for number in numbers
    ]


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """What an actor that took another's place knows of the end of that one.

    Attributes:
        node: the id of the node on which it lives.
        notes: the folder of notes; None if it keeps none.
        actor: its id, the name of its note.
        died_during: the token of the call, if its predecessor died on this node; or "".
    """

    node: str
    journal_dir: Path | None
    actor: str
    running_call: str

    @classmethod
    def here(cls, notes: Path | None) -> CrashRecord:
        """In the process of an actor."""
        context = ray.get_runtime_context()
        actor, node = str(context.get_actor_id()), context.get_node_id()
        return cls(node, notes, actor, _read(notes / node / actor) if notes else "")


class _Host:
    """The Ray actor around a worker.

    It notes which call it works on in a file that a crash leaves behind, so that the actor that takes its place can say
    which call killed it: calls that merely waited in its queue are not to be blamed. With several threads (`notes` is
    None), or after the loss of the node, nobody is. Where Ray restarts it on another node, the caller reads the file.
    """

    def __init__(
        self,
        make: Callable[[int], object],
        number: int,
        name: str,
        notes: Path | None,
        on_start: Callable[[str], None],
        *,
        threads: int,
    ) -> None:
        on_start(name)
        self._name = f"{name}-{number}"
        self._last_words = CrashRecord.here(notes)
        self._under_way: dict[str, float] = {}  # when each call began, by its token
        self._ended_s = 0.0  # when one last ended
        self._threads = threads
        self._worker = _made(make, number)
        self._note = CallJournal(notes / self._last_words.node / self._last_words.actor) if notes is not None else None

    def __repr__(self) -> str:  # Ray's logs show it
        return self._name

    @ray.method(concurrency_group=_CONTROL)
    def ready(self) -> CrashRecord:
        """Answers once the worker is made, its models loaded."""
        return self._last_words

    @ray.method(concurrency_group=_CONTROL)
    def working_since(self, token: str) -> tuple[float, bool]:
        """The seconds that this call has taken, and True; while it waits in the queue, or if it has ended, those of the
        oldest call that is under way (0 if none is), and False.

        Of what a worker serves at once each may wait for all the others: while any of them ends, each has its share of
        the time only.
        """
        under_way, now_s = dict(self._under_way), time.monotonic()  # a copy: calls come and go in other threads
        began_s = under_way.get(token, min(under_way.values(), default=now_s))
        return max(now_s - max(began_s, self._ended_s), (now_s - began_s) / self._threads), token in under_way

    @ray.method(concurrency_group=_CONTROL)
    def ask(self, method: str, *args: Any) -> Any:
        """Calls a method beside the steps: a small question, a small answer."""
        return getattr(self._worker, method)(*args)

    def call(self, token: str, method: str, returns: int, *args: Any) -> tuple[Any, ...]:
        if self._note is not None:
            self._note.begin(token)
        self._under_way[token] = time.monotonic()
        try:
            return self._timed(method, returns, args)
        finally:
            del self._under_way[token]
            self._ended_s = time.monotonic()
            if self._note is not None:
                self._note.end()

    def _timed(self, method: str, returns: int, args: Sequence[Any]) -> tuple[Any, ...]:
        """A worker that is broken for good ends here, so that Ray makes another.

        What it worked on is to blame like that of a crash: an item can break a device (an index out of its range), and
        is then found by bisection; if it is harmless, it passes on the new worker.
        """
        try:
            return call_timed(self._worker, method, returns, args)
        except WorkerBrokenError:
            logger.exception("%s is broken and ends, so that Ray restarts it", self._name)
            logging.shutdown()
            os._exit(1)  # at once, before the note is taken back


class CallJournal:
    """The file that outlives a crash and says which call was under way. Begun anew only once the worker is made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)

    def begin(self, token: str) -> None:
        os.pwrite(self._file, token.encode(), 0)

    def end(self) -> None:
        os.ftruncate(self._file, 0)


def _for_memory(lost: WorkerLostError) -> bool:
    """Whether Ray killed the worker because the node was full: it takes the newest, whoever filled it."""
    return isinstance(lost.__cause__, OutOfMemoryError) or "OOM" in str(lost.__cause__)


def _read(note: Path) -> str:
    return note.read_text() if note.exists() else ""


def _read_there(node: str, words: CrashRecord) -> str:
    """Reads on another node the note that the actor left there; "" if that node is gone, and to blame itself."""
    if words.journal_dir is None:
        return ""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    read: Any = ray.remote(_read).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    try:
        return str(ray.get(read.remote(words.journal_dir / node / words.actor), timeout=_READ_TIMEOUT_S))
    except RayError as exc:
        logger.warning("what a lost worker was doing on node %s cannot be told: %s", node, _first_line(exc))
        return ""


def _made(make: Callable[[int], object], number: int) -> object:
    """The worker. At the first start what goes wrong is raised; a restart is tried for as long as it takes.

    Ray never restarts an actor whose constructor raises, but one whose process ends it does. So a worker that comes
    back while the store is away is not lost for good.
    """
    try:
        return make(number)
    except Exception:
        if not ray.get_runtime_context().was_current_actor_reconstructed:
            raise
        logger.exception("a restarted worker could not be made and is restarted again")
        time.sleep(_RESTART_PAUSE_S)
        os._exit(1)


def _first_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
