"""Measures the time of one fusion: `python -m benchmarks.fusion`.

The rankings are made: 50 entries in each channel of all collections, videos with six entries each, no two questions
alike. Elapsed time contains the time that other processes held the core, computing time does not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock.config import FusionMethod, Normalisation
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions, Rankings
from penstock.records import (
    FIELDS_OF,
    TIMED_COLLECTIONS,
    AssetRef,
    Channel,
    Collection,
    Entry,
    ScoredEntry,
    bare_entry,
)

CHANNELS = tuple(Channel(collection, field) for collection in Collection for field in FIELDS_OF[collection])
RULES = MomentRules(max_gap_ms=5_000, max_ms=120_000)
DEPTH = 50
LIMIT = 10
_ENTRIES = 120  # of each collection that a question may find
_PARTS = 6  # entries of one video
_SHOT_MS = 4_000

METHODS: Sequence[tuple[str, FuseOptions]] = (
    ("calibrated (z-by-channel)", FuseOptions()),
    *(
        (f"weighted {name}", FuseOptions(FusionMethod.WEIGHTED, name))
        for name in Normalisation
        if name is not Normalisation.LOG_ODDS
    ),
    ("rrf", FuseOptions(FusionMethod.RRF)),
)


def bench_fusion(questions: int) -> dict[str, Any]:
    """Returns the milliseconds of each method, and the microseconds of counting one channel."""
    rng = np.random.default_rng(0)
    entries = {collection: [_entry(collection, number) for number in range(_ENTRIES)] for collection in Collection}
    rankings = [_rankings(rng, entries) for _ in range(questions)]
    chooser = FusionChooser(ChannelStatistics())
    counting = _time(lambda number: chooser.statistics.observe(rankings[number], DEPTH), questions)
    rows = []
    for name, options in METHODS:

        def fuse(number: int, options: FuseOptions = options) -> None:
            chooser.choose(options, rankings[number]).rank(rankings[number], RULES, LIMIT)

        rows.append({"method": name, **{f"{key}_ms": value for key, value in _time(fuse, questions).items()}})
    per_channel = {f"count_{key}_us": 1_000 * value / len(CHANNELS) for key, value in counting.items()}
    return {"channels": len(CHANNELS), "depth": DEPTH, "questions": questions, "rows": rows, **per_channel}


def _time(work: Callable[[int], None], times: int) -> dict[str, float]:
    """Returns percentiles of the milliseconds of `work(number)`, after one call that warms up."""
    work(0)
    elapsed, computing = [], []
    for number in range(times):
        started, started_computing = time.perf_counter(), time.thread_time()
        work(number)
        computing.append(time.thread_time() - started_computing)
        elapsed.append(time.perf_counter() - started)
    return {
        f"{name}_p{percent}": round(float(np.percentile(seconds, percent)) * 1_000, 4)
        for name, seconds in (("elapsed", elapsed), ("computing", computing))
        for percent in (50, 95)
    }


def _rankings(rng: np.random.Generator, entries: dict[Collection, list[Entry]]) -> Rankings:
    by_channel = {}
    for channel in CHANNELS:
        scores = np.sort(rng.beta(2, 6, DEPTH))[::-1].tolist()
        chosen = rng.choice(_ENTRIES, DEPTH, replace=False).tolist()
        by_channel[channel] = [
            ScoredEntry(entries[channel.collection][number], score)
            for number, score in zip(chosen, scores, strict=True)
        ]
    return Rankings(by_channel, {}, dict.fromkeys(Collection, DEPTH), {channel: channel.field for channel in CHANNELS})


def _entry(collection: Collection, number: int) -> Entry:
    timed = collection in TIMED_COLLECTIONS
    asset = AssetRef(
        "default", "media.video" if timed else f"media.{collection}", str(number // _PARTS if timed else number)
    )
    start_ms = number % _PARTS * _SHOT_MS if timed else 0
    return replace(
        bare_entry(asset, collection, number),
        text="words",
        start_ms=start_ms,
        end_ms=start_ms + _SHOT_MS - 1 if timed else 0,
    )


if __name__ == "__main__":
    print(json.dumps(bench_fusion(1_000), indent=1))
