"""Runs a lane on a real broker until it has settled a number of dead letters and one text, and prints what it took.

python -m tests.ingest.lane.bombed BOOTSTRAP_SERVERS LETTERS
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from penstock.broker.consumer import LaneConsumer
from penstock.broker.wire import parse_record
from penstock.config import KafkaSettings
from penstock.records import Modality
from tests.ingest.lane.harness import LaneHarness, eventually, running

_MAX_INLINE_BYTES = 256 * 2**20


def peak_bytes() -> int:
    """Returns the most memory that this process has had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(bootstrap_servers: str, letters: int) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers, session_timeout_ms=30_000)
    harness = LaneHarness()
    lane = harness.lane(
        consumer=LaneConsumer(settings, [settings.text_topic], drain_timeout_s=5),
        topics=[settings.text_topic],
        parse=partial(
            parse_record, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=_MAX_INLINE_BYTES
        ),
        max_in_flight_bytes=128_000_000,
    )
    before = peak_bytes()
    with running(lane):
        eventually(lambda: len(harness.sink.letters) == letters and harness.count() == 1, "all are settled", 400)
    reasons = {str(letter.position.offset): letter.reason.value for letter in harness.sink.letters}
    sys.stdout.write(json.dumps({"letters": reasons, "indexed": harness.count(), "peak_bytes": peak_bytes() - before}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
