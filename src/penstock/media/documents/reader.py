"""Reads pages of a document in a child process, and says in words how one ended that died.

1. The bytes go to the child as a file in memory, what it reads comes back as another (`frames`).
2. A child that dies has written the pages before. The page that it died of is marked as damaged, and another child
   continues behind it.
3. A document that cannot be opened, or of which several pages kill the child, is refused.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import psutil

from penstock.errors import BadInputError, Reason, UnavailableError
from penstock.media.documents.frames import DocumentFrame, EndFrame, read_frames
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.types import DocumentPage, DocumentPages, DocumentType

_MAX_DEATHS = 3  # pages of one call that may end the child
_WALL_TIMES_CPU = 4  # a child of low priority gets less than a core; then its batch is tried again
_MIN_WALL_S = 60.0  # for small limits of CPU time: the start alone takes seconds on a busy machine
_BUSY_SHARE = 0.005  # of the elapsed time: a child that ran less did not wait for a core


def read_pages(data: bytes, kind: DocumentType, *, first: int, count: int, limits: DocumentLimits) -> DocumentPages:
    """Reads up to `count` pages from page `first` on, in a child process of bounded memory and time.

    Fewer pages come back where they take long: continue at `next_page` until `is_last`.

    Args:
        data: the whole document.
        kind: what it was detected as, by `types.document_type`.
        first: from 1.
        count: pages that are wanted at most.
        limits: of pages, pixels, memory and time.

    Raises:
        BadInputError: UNSUPPORTED (encrypted), CORRUPT, TOO_LARGE (of pages, unpacked bytes, memory or time), or
            CRASHES_WORKER (its parser crashes).
        UnavailableError: the machine is too busy, so that the child did not get the CPU time that it may use.
    """
    if first < 1 or count < 1:
        raise ValueError(f"pages {first} and {count - 1} more cannot be read")
    collected = _PageCollection(kind, first, count)
    deadline_s = time.monotonic() + max(_MIN_WALL_S, _WALL_TIMES_CPU * limits.parse_timeout_s)
    while not collected.is_complete:
        request = {"kind": kind, "first": collected.next_page, "count": collected.missing, "limits": asdict(limits)}
        collected.add(_run_child(data, request, limits.parse_timeout_s, deadline_s))
    return collected.pages()


@dataclass(slots=True)
class _Run:
    """The result of one child. `death` says how it ended before its time; "" if it did not."""

    document: DocumentFrame | None = None
    pages: list[DocumentPage] = field(default_factory=list)
    end: EndFrame | None = None
    death: str = ""
    reason: Reason = Reason.CRASHES_WORKER


class _PageCollection:
    """Collects the pages of one call over its children."""

    def __init__(self, kind: DocumentType, first: int, count: int) -> None:
        self._kind = kind
        self._first = first
        self._count = count
        self._document: DocumentFrame | None = None
        self._pages: list[DocumentPage] = []
        self._notes: dict[str, None] = {}
        self._deaths = 0
        self.is_complete = False

    @property
    def next_page(self) -> int:
        return self._first + len(self._pages)

    @property
    def missing(self) -> int:
        return self._count - len(self._pages)

    def add(self, run: _Run) -> None:
        """Adds the pages of a child, and decides whether another one has to continue."""
        self._document = run.document or self._document
        self._pages.extend(run.pages)
        self._notes.update(dict.fromkeys(run.end.notes if run.end else ()))
        if run.end is None:
            self._add_death(run)
        assert self._document is not None
        self.is_complete = run.end is not None or not self.missing or self.next_page > self._document.page_count

    def _add_death(self, run: _Run) -> None:
        """Marks the page that a child died of as damaged.

        Raises:
            BadInputError: it died before it had opened the document, or too many did.
        """
        if run.document is None:
            raise BadInputError(run.reason, f"the parser of this {self._kind.upper()} {run.death}")
        self._deaths += 1
        if self._deaths > _MAX_DEATHS:
            detail = f"pages of this {self._kind.upper()} end its parser; at page {self.next_page:,} it {run.death}"
            raise BadInputError(run.reason, detail)
        self._pages.append(DocumentPage(self.next_page, "", "", damage=f"its parser {run.death}"))

    def pages(self) -> DocumentPages:
        """Returns the result.

        Raises:
            BadInputError: CORRUPT: nothing at all could be read of a document.
        """
        document = self._document
        assert document is not None
        is_last = self.next_page > document.page_count
        if is_last and self._first == 1 and all(_is_lost(page) for page in self._pages):
            raise BadInputError(Reason.CORRUPT, f"nothing of it can be read: {self._pages[0].damage}")
        return DocumentPages(
            document.title, document.author, self._kind, document.page_count, self._first, tuple(self._pages), is_last,
            tuple(self._notes),
        )  # fmt: skip


def _is_lost(page: DocumentPage) -> bool:
    return bool(page.damage) and not page.text and page.image is None and not page.figures


# --- the child -------------------------------------------------------------------------------------------------------


def _run_child(data: bytes, request: dict[str, Any], cpu_s: float, deadline_s: float) -> _Run:
    argument = json.dumps({"parent": os.getpid(), **request})
    command = [sys.executable, "-m", "penstock.media.documents.child", argument]
    with _memory_file() as source, _memory_file() as result, _memory_file() as errors:
        source.write(data)
        source.seek(0)
        process = subprocess.Popen(
            command, stdin=source, stdout=result, stderr=errors, env=_environment(), start_new_session=True
        )
        try:
            death, reason = _await(process, cpu_s, deadline_s)
        finally:
            process.kill()
            process.wait()
        result.seek(0)
        run = _read_result(result)
        if run.end is None:
            run.death, run.reason = death or _as_error(errors), reason
        return run


def _await(process: subprocess.Popen[bytes], cpu_s: float, deadline_s: float) -> tuple[str, Reason]:
    """Waits for the end of the child; returns how it died, "" if it did not by a signal, and the reason to give."""
    started_s = time.monotonic()
    try:
        code = process.wait(max(0.0, deadline_s - started_s))
    except subprocess.TimeoutExpired:
        return _describe_late(process, time.monotonic() - started_s)
    if code >= 0:
        return "", Reason.CRASHES_WORKER
    if -code == signal.SIGXCPU:
        return f"took too much CPU time (documents.parse_timeout_s is {cpu_s:g})", Reason.TOO_LARGE
    if -code == signal.SIGKILL:
        return "was killed, probably for lack of memory", Reason.TOO_LARGE
    return f"crashed by signal {-code}", Reason.CRASHES_WORKER


def _describe_late(process: subprocess.Popen[bytes], elapsed_s: float) -> tuple[str, Reason]:
    """Distinguishes a child that waits for something from one that got too little of the CPU.

    Raises:
        UnavailableError: the latter.
    """
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return "ended late", Reason.CRASHES_WORKER
    if times.user + times.system < _BUSY_SHARE * elapsed_s:
        return f"did nothing for {elapsed_s:.0f} s", Reason.CRASHES_WORKER
    raise UnavailableError(
        f"the parser of a document got {times.user + times.system:.0f} s of CPU time in {elapsed_s:.0f} s, which is "
        "less than documents.parse_timeout_s: the machine is too busy"
    )


def _read_result(result: IO[bytes]) -> _Run:
    """Returns what a child has written.

    Raises:
        BadInputError: it refused the document, or wrote what no child writes.
    """
    run = _Run()
    try:
        for frame in read_frames(result):
            if isinstance(frame, BadInputError):
                raise frame
            if isinstance(frame, DocumentFrame):
                run.document = frame
            elif isinstance(frame, EndFrame):
                run.end = frame
            else:
                run.pages.append(frame)
    except (ValueError, KeyError, TypeError) as exc:
        raise BadInputError(
            Reason.CRASHES_WORKER, "the parser of this document wrote no pages but other bytes"
        ) from exc
    return run


def _as_error(errors: IO[bytes]) -> str:
    """Returns how a child ended that did so by itself, with the last line that it wrote."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 2_000))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"ended early: {lines[-1][:300]}" if lines else "ended early"


@contextmanager
def _memory_file() -> Iterator[IO[bytes]]:
    """Opens a file without a name: in memory on Linux, elsewhere a temporary one."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("penstock-document"), "w+b") as file:
            yield file
    else:
        with tempfile.TemporaryFile() as file:
            yield file


def _environment() -> dict[str, str]:
    """Returns all that a child needs of the environment: where Python's modules are, and nothing secret."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG") if name in os.environ}
    # numpy's threads would only take address space
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
