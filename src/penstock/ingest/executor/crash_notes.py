"""Crash attribution: finds out which call was running when an actor's process died.

An actor notes each call in a file (`CallJournal`) before it begins, and clears the note when the call ends. A crash
leaves the note behind, and the actor that takes its place reads it (`CrashRecord`): the call that was running is to
blame, not those that were waiting in the actor's queue. Where Ray restarts the actor on another node, the caller has
the file read on the node where the process died (`call_running_on`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.config import Settings
from penstock.errors import first_line

T = TypeVar("T")

logger = logging.getLogger(__name__)

_READ_TIMEOUT_S = 30.0  # Ray may have to start a process there first


def journal_dir(settings: Settings) -> Path:
    """Returns the folder of the journals of a plane, which another plane on the node does not share."""
    group = blake2b(settings.kafka.group.encode(), digest_size=8).hexdigest()
    return settings.data_dir / "calls" / group


class CallJournal:
    """The file that outlives a crash and names the call that was running. Truncated when it is opened.

    Args:
        path: the file; opened only once the worker is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)

    def begin(self, token: str) -> None:
        """Notes that this call is running."""
        os.pwrite(self._file, token.encode(), 0)

    def end(self) -> None:
        """Notes that no call is running."""
        os.ftruncate(self._file, 0)


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """The identity of an actor, and what it found of its predecessor's end when it started.

    Attributes:
        node: the id of the node on which it runs.
        journal_dir: the folder of the journals; None if it keeps none.
        actor: its id, the name of its journal.
        running_call: the token of the call during which its predecessor died on this node; empty if there was none.
    """

    node: str
    journal_dir: Path | None
    actor: str
    running_call: str

    @classmethod
    def of_this_actor(cls, journal_dir: Path | None) -> CrashRecord:
        """Returns the record of the actor in whose process this is called."""
        context = ray.get_runtime_context()
        actor, node = str(context.get_actor_id()), context.get_node_id()
        return cls(node, journal_dir, actor, _read(journal_dir / node / actor) if journal_dir else "")

    def open_journal(self) -> CallJournal | None:
        """Opens the actor's own journal, if it keeps one."""
        return None if self.journal_dir is None else CallJournal(self.journal_dir / self.node / self.actor)


def call_running_on(record: CrashRecord, node: str) -> str:
    """Returns the token of the call during which the actor died on a node, or "" if that is not known.

    Args:
        record: of the actor that took its place.
        node: where the actor ran before; "" if that is not known either.
    """
    if node in ("", record.node):
        return record.running_call
    return "" if record.journal_dir is None else read_on(node, _read, record.journal_dir / node / record.actor) or ""


def read_on(node: str, read: Callable[[Path], T], path: Path) -> T | None:
    """Calls a function on a node; returns None if that node is lost, whose loss then explains the crash."""
    if node == ray.get_runtime_context().get_node_id():
        return read(path)
    on_node = NodeAffinitySchedulingStrategy(node, soft=False)
    remote: Any = ray.remote(read).options(num_cpus=0, max_retries=0, scheduling_strategy=on_node)
    try:
        result: T = ray.get(remote.remote(path), timeout=_READ_TIMEOUT_S)
    except RayError as exc:
        logger.warning("cannot read on node %s what a lost worker was doing: %s", node, first_line(exc))
        return None
    return result


def _read(journal: Path) -> str:
    return journal.read_text() if journal.exists() else ""
