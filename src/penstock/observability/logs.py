"""Configures the log of a driver or actor: text on stderr, or JSON on stdout for log collectors.

    {"time": "2026-11-30T08:15:45.123Z", "level": "WARNING", "logger": "penstock.ingest.holds", "message": "…",
     "process": "lane", "node": "penstock-ingest-worker-7", "pid": 412, "exception": "Traceback …"}

A line that is logged within a sampled trace has its `trace_id` as well. What a producer or caller sent cannot begin a
line of the log, and a terminal that shows the log obeys nothing in it: control characters are escaped.

Ray redirects the output of actors to files of its session. Where `RAY_LOG_TO_STDERR=1` is in the environment of its
nodes, it leaves their output alone, and a pod's output has the log of all its processes.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from penstock.observability import tracing
from penstock.observability.control_characters import escape_json, escape_line, escape_lines

if TYPE_CHECKING:
    from penstock.config import LogSettings

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
_installed: logging.Handler | None = None


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line.

    Args:
        process: the name of this process, such as `lane`.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._constant = {"process": process, "node": socket.gethostname(), "pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {
            "time": time,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
        }
        if carrier := tracing.current().carrier():
            document["trace_id"] = carrier.split("-")[1]
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(document, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text, below which the lines of its traceback stand, if it has one."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of `logging`
        """Returns the line with its control characters escaped."""
        return escape_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name of `logging`
        """Returns the traceback, indented: no line of an error's message then looks like a line of the log."""
        return "\n".join(f"  {line}" for line in escape_lines(super().formatException(ei)).split("\n"))


def configure_text(level: int) -> None:
    """Logs text to stderr from this level on. Other libraries log errors only, or warnings below level WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter())
    _install(handler, level)


def configure(settings: LogSettings, process: str, *, level: int = logging.CRITICAL) -> None:
    """Makes this process log as the settings say. A second call takes the place of the first.

    Args:
        settings: format and level.
        process: the name of this process, without a number: `decode`.
        level: logged at least, as `-v` on the command line demands.
    """
    level = min(level, _LEVELS[settings.level])
    if settings.format == "text":
        configure_text(level)
        return
    # Not `sys.stdout`, which Ray Serve replaces by a logger.
    handler = logging.StreamHandler(sys.__stdout__)
    handler.setFormatter(JsonFormatter(process))
    _install(handler, level)
    logging.captureWarnings(True)
    ray = logging.getLogger("ray")  # has a handler of its own, for text
    ray.handlers[:] = []
    ray.propagate = True


def is_json() -> bool:
    """Returns whether this process logs JSON."""
    return _installed is not None and isinstance(_installed.formatter, JsonFormatter)


def _install(handler: logging.Handler, level: int) -> None:
    global _installed  # noqa: PLW0603 - the root logger, which it belongs to, is one as well
    root = logging.getLogger()
    if _installed is not None:
        root.removeHandler(_installed)
    _installed = handler
    root.addHandler(handler)
    root.setLevel(logging.ERROR if level >= logging.WARNING else logging.WARNING)
    logging.getLogger("penstock").setLevel(level)
