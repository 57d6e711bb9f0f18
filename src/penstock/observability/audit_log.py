"""The audit log: who did what to which tenant, when, and with which outcome, as one line of JSON each.

    {"time": "2026-11-30T08:15:45.123Z", "action": "search", "outcome": "ok", "status": 200, "subject": "key:k1",
     "key_id": "k1", "tenant": "acme", "request_id": "4bf9…", "text_sha256": "9f86…", "hits": 10, "took_ms": 12.4,
     "chain": "3f2a…", "seq": 17, "previous": "c0de…"}

The lines of a process are a chain: each has the SHA-256 of the line before it, so that `observability.audit_chain`
notices a line that was changed, removed or added later. The text of a question is kept as its SHA-256 unless the
settings demand it; nothing else of a request's content is.

A line is written before the next request of the process is recorded, in one `write`: a crash loses no line, and the
lines of several processes in one file do not mix.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from penstock.errors import ConfigError
from penstock.observability.control_characters import escape_json

if TYPE_CHECKING:
    from penstock.config import Settings

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Literal["ok", "refused", "invalid", "failed", "cut"]
"""`refused`: no or other credentials, or too many requests; `invalid`: the caller's fault; `cut`: the client went."""

FIRST = "0" * 64
"""The number in place of the hash of the line before, in the first line of a chain."""
_FILE = "audit-log.jsonl"
_MAX_CHARS = 512  # of a name: a caller chooses tenants and ids as long as it likes
_SILENT_S = 60.0  # between two lines of the log about an audit log that cannot be written


@dataclass(slots=True)
class AuditNote:
    """The facts that the parts of a program that carry out an action add to its line.

    Attributes:
        tenant: on whose behalf, once it is known.
        text: of the question.
        target: what the request names in its path, such as the hash of media.
        counts: numbers of what was returned or changed, by name.
    """

    tenant: str | None = None
    text: str | None = None
    target: Mapping[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


_note: ContextVar[AuditNote | None] = ContextVar("audit_note", default=None)


def begin_note() -> AuditNote:
    """Returns the note of a new action; `note` adds to it in this task and its children."""
    started = AuditNote()
    _note.set(started)
    return started


def note(*, tenant: str | None = None, text: str | None = None, **counts: int) -> None:
    """Adds facts to the line of the present action; does nothing where no action is recorded.

    The first text stays: that of a question, of which searches are made.
    """
    present = _note.get()
    if present is None:
        return
    present.tenant = tenant if tenant is not None else present.tenant
    present.text = present.text if present.text is not None else text
    present.counts.update(counts)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One action.

    Attributes:
        action: a word of a closed list: search, ask, media, purge.
        outcome: how it ended.
        subject: who did it; `anonymous`, or None for a request whose credentials were refused.
        key_id: of the API key, if it was one.
        note: what is known of it.
        status: of the HTTP answer.
        request_id: of the request, from its trace context or header, or new.
        took_ms: until the end of the answer.
    """

    action: str
    outcome: Outcome
    subject: str | None
    note: AuditNote
    key_id: str | None = None
    status: int | None = None
    request_id: str | None = None
    took_ms: float | None = None


class AuditLog:
    """Writes the audit log of one process. Safe to call from several threads.

    Args:
        write: writes one line, as a whole.
        with_text: whether texts are written, and not their hashes alone.
        now: seconds since the epoch.
    """

    def __init__(
        self, write: Callable[[bytes], None], *, with_text: bool, now: Callable[[], float] = time.time
    ) -> None:
        self._write = write
        self._with_text = with_text
        self._now = now
        self._lock = threading.Lock()
        self._chain = secrets.token_hex(8)
        self._seq = 0
        self._previous = FIRST
        self._silent_until_s = 0.0

    def record(self, record: AuditRecord) -> None:
        """Writes the line of an action.

        A line that cannot be written is reported in the log of the process and does not fail the action, which has
        already happened; its number is missing from the chain.
        """
        document = self._document(record)
        with self._lock:
            chained = {**document, "chain": self._chain, "seq": self._seq, "previous": self._previous}
            line = escape_json(json.dumps(chained, ensure_ascii=False, separators=(",", ":"))).encode()
            self._seq += 1
            try:
                self._write(line + b"\n")
            except OSError as exc:
                self._report(exc)
                return
            self._previous = hashlib.sha256(line).hexdigest()

    def _document(self, record: AuditRecord) -> Mapping[str, object]:
        noted = record.note
        time_s = datetime.fromtimestamp(self._now(), UTC)
        document: dict[str, object | None] = {
            "time": time_s.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": record.action,
            "outcome": record.outcome,
            "status": record.status,
            "subject": _bounded(record.subject),
            "key_id": _bounded(record.key_id),
            "tenant": _bounded(noted.tenant),
            "request_id": record.request_id,
            "target": {name: _bounded(value) for name, value in noted.target.items()} or None,
            "text": noted.text if self._with_text else None,
            "text_sha256": None if noted.text is None else _sha256(noted.text),
            **noted.counts,
            "took_ms": None if record.took_ms is None else round(record.took_ms, 1),
        }
        return {name: value for name, value in document.items() if value is not None}

    def _report(self, exc: OSError) -> None:
        if time.monotonic() >= self._silent_until_s:
            self._silent_until_s = time.monotonic() + _SILENT_S
            logger.error("the audit log cannot be written, and lacks what happens now: %s", exc)


class AppendedFile:
    """Appends lines to a file, and opens it again where a rotation moved it away.

    Args:
        path: of the file, created for this user alone.

    Raises:
        ConfigError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opened()
        except OSError as exc:
            raise ConfigError(f"the audit log {path} cannot be written: {exc}. See audit_log.file.") from exc

    def write(self, line: bytes) -> None:
        """Appends a line in one call, which the system carries out as a whole. Raises OSError if it cannot."""
        if not self._is_present():
            os.close(self._file)
            self._file = self._opened()
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self._path} took a part of a line: is its disk full?")

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_present(self) -> bool:
        """Returns whether the path still leads to the open file."""
        try:
            named = os.stat(self._path)  # noqa: PTH116 - once for each request
        except FileNotFoundError:
            return False
        opened = os.fstat(self._file)
        return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)


def open_audit_log(settings: Settings) -> AuditLog | None:
    """Returns the audit log of this process; None if the settings switch it off.

    Args:
        settings: the section `audit_log`, and `auth.mode`, on which `auto` depends.

    Raises:
        ConfigError: its file cannot be written.
    """
    section = settings.audit_log
    output = ("off" if settings.auth.mode == "none" else "file") if section.output == "auto" else section.output
    if output == "off":
        return None
    if output == "stdout":
        return AuditLog(_write_to_stdout, with_text=section.text)
    return AuditLog(AppendedFile(audit_log_file(settings)).write, with_text=section.text)


def audit_log_file(settings: Settings) -> Path:
    """Returns the path of the audit log."""
    return settings.audit_log.file or settings.data_dir / _FILE


def record_command(
    settings: Settings,
    action: str,
    outcome: Outcome,
    *,
    tenant: str | None = None,
    target: Mapping[str, str] | None = None,
    **counts: int,
) -> None:
    """Records a command of an operator: `purge`, `replay`, `sweep`, `keys`. Its subject is the user of the system.

    Commands that change something are always recorded in the file, unless the audit log is off or goes to stdout,
    which has their results: then the line goes to stderr.
    """
    section = settings.audit_log
    if section.output == "off":
        return
    write = _write_to_stderr if section.output == "stdout" else AppendedFile(audit_log_file(settings)).write
    noted = AuditNote(tenant=tenant, target=target or {}, counts=counts)
    AuditLog(write, with_text=section.text).record(AuditRecord(action, outcome, f"os:{_user()}", noted))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


def _write_to_stdout(line: bytes) -> None:
    # Not `sys.stdout`, which Ray Serve replaces by a logger.
    stream = sys.__stdout__
    if stream is not None:
        stream.buffer.write(line)
        stream.flush()


def _write_to_stderr(line: bytes) -> None:
    sys.stderr.write(line.decode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _bounded(name: str | None) -> str | None:
    return name if name is None or len(name) <= _MAX_CHARS else name[: _MAX_CHARS - 1] + "…"
