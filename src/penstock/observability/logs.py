"""Configures the log of a driver or actor: text on stderr, or JSON on stdout for log collectors.

    {"time": "2026-11-30T08:15:45.123Z", "level": "WARNING", "logger": "penstock.ingest.holds", "message": "…",
     "process": "lane", "node": "penstock-ingest-worker-7", "pid": 412, "exception": "Traceback …"}

A line that is logged within a sampled trace has its `trace_id` as well.

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
from typing import TYPE_CHECKING

from penstock.observability import tracing

if TYPE_CHECKING:
    from penstock.config import LogSettings

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
        return json.dumps(document, ensure_ascii=False)


def configure_text(level: int) -> None:
    """Logs text to stderr from this level on. Other libraries log errors only, or warnings below level WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_TEXT))
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
