"""Lanes that a record can kill while they parse it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.broker.record_parser import RecordParser
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import Settings
from penstock.ingest.lane import actor
from penstock.records import Event, Record, Rejected

KILLS_ITS_LANE = "kills the process that parses it"


@dataclass(frozen=True, slots=True)
class KillableParser:
    """Step 1 in which some records end the process, as a bug of a native parser would."""

    parse: RecordParser

    @classmethod
    def of(cls, settings: Settings, replays: ReplayKeys, *, now_ms: Callable[[], int]) -> KillableParser:
        return cls(RecordParser.of(settings, replays, now_ms=now_ms))

    def __call__(self, record: Record) -> Event | Rejected:
        if KILLS_ITS_LANE.encode() in (record.value or b""):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.parse(record)


class KillableLane(actor.LaneHost):
    """The actor of a lane with such a step 1."""

    def __init__(self, *args: Any) -> None:
        actor.RecordParser = KillableParser  # type: ignore[assignment,misc]
        super().__init__(*args)
