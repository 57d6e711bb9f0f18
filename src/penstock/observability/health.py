"""Keeps the health of the ingest plane in a file of its node, from which the node's endpoint answers probes.

    driver ─► <data_dir>/metrics/health.json ─► /livez, /readyz, /status   beside /metrics

Whichever process serves the endpoint, the answer is that of the driver's last turn: a driver that is stuck or gone does
not answer for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

LIVE_FOR_MS = 60_000  # after a turn of the driver's monitor, which takes a second, and half a minute at the worst
# The readiness is renewed at every turn; one that is older is not to be trusted. A store that stops has to show here
# within 10 s.
_READY_FOR_MS = 10_000


@dataclass(frozen=True, slots=True)
class Health:
    """The health of the ingest plane at one turn of its driver.

    Attributes:
        state: the phase of its life.
        reasons: why it is not ready; empty if it is.
        updated_ms: time of the turn, milliseconds since the epoch.
        live_until_ms: time of the latest next turn of a driver that works.
        status: the whole status, as JSON.
    """

    state: str
    reasons: Sequence[str]
    updated_ms: int
    live_until_ms: int
    status: Mapping[str, object] = field(default_factory=dict)


class Answer(NamedTuple):
    """The answer to a request: HTTP status and JSON document."""

    code: int
    document: Mapping[str, object]


def write_health(directory: Path, health: Health) -> None:
    """Replaces the file atomically.

    Raises:
        OSError: it cannot be written.
    """
    replace_text(_file(directory), json.dumps(asdict(health)))


def replace_text(target: Path, text: str) -> None:
    """Replaces a file atomically, so that a reader never sees half of it, also where several processes write it.

    Raises:
        OSError: it cannot be written; the present one stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_health(directory: Path) -> Health | None:
    """Returns the health of the last turn; None if no ingest plane has run on this node."""
    try:
        return _HEALTH.validate_json(_file(directory).read_bytes())
    except (OSError, ValidationError):
        return None


def answer(path: str, directory: Path, now_ms: int) -> Answer | None:
    """Returns the answer to a request for the health or status of the ingest plane; None for any other path."""
    if path not in ("/livez", "/readyz", "/status"):
        return None
    health = read_health(directory)
    if health is None:
        return Answer(404, {"reasons": ["no ingest plane has run on this node"]})
    age_s = (now_ms - health.updated_ms) / 1000
    if path == "/status":
        return Answer(200, {**health.status, "updated_s_ago": round(age_s, 1)})
    of = {"state": health.state, "updated_s_ago": round(age_s, 1)}
    if path == "/livez":
        live = now_ms <= health.live_until_ms
        reasons = [] if live else [f"the driver's monitor last turned {age_s:.0f} s ago ({health.state})"]
        return Answer(200 if live else 503, {"live": live, "reasons": reasons, **of})
    stale = now_ms - health.updated_ms > _READY_FOR_MS and not health.reasons
    reasons = [f"the driver's monitor last turned {age_s:.0f} s ago"] if stale else list(health.reasons)
    return Answer(503 if reasons else 200, {"ready": not reasons, "reasons": reasons, **of})


_HEALTH = TypeAdapter(Health)


def _file(directory: Path) -> Path:
    return directory / "health.json"
