"""Keeps the health of each ingest plane in a file of its node, from which the node's endpoint answers probes.

    driver ─► <data_dir>/metrics/health/<digest of its group>.json ─► /livez, /readyz, /status   beside /metrics

Whichever process serves the endpoint, the answer is that of the driver's last turn: a driver that is stuck or gone does
not answer for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

LIVE_FOR_MS = 60_000  # after a turn of the driver's monitor, which takes a second, and half a minute at the worst
# The readiness is renewed at every turn; one that is older is not to be trusted. A store that stops has to show here
# within 10 s.
_READY_FOR_MS = 10_000


@dataclass(frozen=True, slots=True)
class Health:
    """The health of an ingest plane at one turn of its driver.

    Attributes:
        group: the consumer group that it ingests for; no two planes have the same.
        state: the phase of its life.
        reasons: why it is not ready; empty if it is.
        updated_ms: time of the turn, milliseconds since the epoch.
        live_until_ms: time of the latest next turn of a driver that works.
        status: the whole status, as JSON.
    """

    group: str
    state: str
    reasons: Sequence[str]
    updated_ms: int
    live_until_ms: int
    status: Mapping[str, object] = field(default_factory=dict)


class Answer(NamedTuple):
    """The answer to a request: HTTP status and JSON document."""

    code: int
    document: Mapping[str, object]


def plane_file(directory: Path, group: str) -> Path:
    """Returns the path of an ingest plane's file in a folder that it shares with planes of other consumer groups."""
    return directory / f"{blake2b(group.encode(), digest_size=8).hexdigest()}.json"


def write_health(directory: Path, health: Health) -> None:
    """Replaces the file of the plane atomically.

    Raises:
        OSError: it cannot be written.
    """
    replace_text(plane_file(_folder(directory), health.group), json.dumps(asdict(health)))


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


def read_health(directory: Path, group: str) -> Health | None:
    """Returns the health at the last turn; None if no plane of this consumer group has run on this node."""
    return _read(plane_file(_folder(directory), group))


def remove_ended(directory: Path, now_ms: int) -> None:
    """Removes the files of planes that ended or are stuck, so that probes no longer count them.

    A driver does so when it starts: its own group may have had another name before.
    """
    for file in _folder(directory).glob("*.json"):
        health = _read(file)
        if health is None or health.live_until_ms < now_ms:
            file.unlink(missing_ok=True)


def answer(path: str, directory: Path, now_ms: int, group: str = "") -> Answer | None:
    """Returns the answer to a request for the health or status of ingest planes; None for any other path.

    Args:
        path: of the request.
        directory: the node's folder of metrics and health.
        now_ms: milliseconds since the epoch.
        group: the consumer group of the plane that is meant; empty: all planes of this node, which are live or ready
            if each of them is.
    """
    if path not in ("/livez", "/readyz", "/status"):
        return None
    files = [plane_file(_folder(directory), group)] if group else sorted(_folder(directory).glob("*.json"))
    planes = sorted(filter(None, map(_read, files)), key=lambda health: health.group)
    if not planes:
        of = f" of the consumer group {group}" if group else ""
        return Answer(404, {"reasons": [f"no ingest plane{of} has run on this node"]})
    if len(planes) == 1:
        return _answer_for(path, planes[0], now_ms)
    if path == "/status":
        groups = ", ".join(health.group for health in planes)
        return Answer(400, {"reasons": [f"several ingest planes run on this node; add ?group= with one of: {groups}"]})
    answers = {health.group: _answer_for(path, health, now_ms) for health in planes}
    reasons = [
        f"{of}: {reason}" for of, given in answers.items() for reason in cast(list[str], given.document["reasons"])
    ]
    documents = {of: given.document for of, given in answers.items()}
    return Answer(max(given.code for given in answers.values()), {"reasons": reasons, "groups": documents})


def _answer_for(path: str, health: Health, now_ms: int) -> Answer:
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


def _folder(directory: Path) -> Path:
    return directory / "health"


def _read(file: Path) -> Health | None:
    """Returns None for a file that is missing, or that another version of Penstock wrote."""
    try:
        return _HEALTH.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
