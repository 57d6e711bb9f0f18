"""Keeps the running statistics of a replica in a file of the data folder, so that they survive a restart.

    <data_dir>/query-statistics/replica-0.json, replica-1.json, …

Each replica has a file of its own, which it holds by a lock: of several replicas none overwrites what another one
counted. A replica that starts takes the first file that no other one holds. If it is new, the replica continues with
the sums of another file. Each counts its own questions, which are a random part of all.

A file holds numbers only. It belongs to the encoders and the analyzer that gave the scores, whose key it records; with
another key the statistics start again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from hashlib import blake2b
from pathlib import Path
from typing import IO

from penstock.query.fusion.statistics import ChannelName, ChannelStatistics, ScoreSums

logger = logging.getLogger(__name__)

# Of the statistics at most this much is lost when a replica is killed.
SAVE_INTERVAL_S = 10.0
MAX_REPLICAS = 256


class StatisticsFile:
    """The statistics of one replica and their file. Call `close` at the end.

    Without access to the folder the statistics live in memory only, which a warning reports.

    Args:
        folder: created if missing.
        key: of the encoders and the analyzer, see `statistics_key`.
        interval_s: seconds between two saves in the background; None: only `save` and `close` save.

    Attributes:
        statistics: those of the file, or of another one if it is new.
    """

    def __init__(self, folder: Path, key: str, *, interval_s: float | None = SAVE_INTERVAL_S) -> None:
        self._key = key
        self._path, self._lock_file = _take_file(folder)
        files = [] if self._path is None else [self._path, *sorted(folder.glob("replica-*.json"))]
        kept = (blocks for file in files if (blocks := _read(file, key)) is not None)
        self.statistics = ChannelStatistics(next(kept, None))
        self._saved_questions = 0
        self._saving = threading.Lock()
        self._closed = threading.Event()
        if self._path is not None and interval_s is not None:
            threading.Thread(
                target=self._save_regularly, args=(interval_s,), name="save-statistics", daemon=True
            ).start()

    @property
    def path(self) -> Path | None:
        """The file; None if the folder cannot be written."""
        return self._path

    def save(self) -> None:
        """Replaces the file atomically, if questions were counted since the last time."""
        with self._saving:
            questions = self.statistics.questions
            if self._path is None or questions == self._saved_questions:
                return
            channels = {name: [astuple(sums) for sums in blocks] for name, blocks in self.statistics.blocks().items()}
            temporary = self._path.with_suffix(".tmp")
            try:
                temporary.write_text(json.dumps({"key": self._key, "channels": channels}))
                temporary.replace(self._path)
            except OSError as exc:
                logger.warning("the statistics of channels were not saved: %s", exc)
            else:
                self._saved_questions = questions

    def close(self) -> None:
        """Saves, and lets another replica take the file."""
        self._closed.set()
        self.save()
        if self._lock_file is not None:
            self._lock_file.close()

    def _save_regularly(self, interval_s: float) -> None:
        while not self._closed.wait(interval_s):
            self.save()


def statistics_key(fingerprints: Mapping[str, str], analyzer: str) -> str:
    """Returns the key of statistics: hexadecimal digits that change with the encoders and with the analyzer.

    Args:
        fingerprints: of the encoders, by role.
        analyzer: identifies the words that BM25 compares.
    """
    return blake2b(json.dumps([sorted(fingerprints.items()), analyzer]).encode(), digest_size=16).hexdigest()


def _take_file(folder: Path) -> tuple[Path | None, IO[bytes] | None]:
    """Returns the first file of the folder that no other replica holds, and its lock, which is held until closed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_REPLICAS):
            lock_file = (folder / f"replica-{number}.lock").open("ab")
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock_file.close()
            else:
                return folder / f"replica-{number}.json", lock_file
    except OSError as exc:
        logger.warning("the statistics of channels are kept in memory only: %s", exc)
    return None, None


def _read(file: Path, key: str) -> dict[ChannelName, list[ScoreSums]] | None:
    """Returns the sums in a file; None if it is missing, broken or of another key."""
    try:
        document = json.loads(file.read_text())
        if document["key"] != key:
            return None
        return {name: [_sums(row) for row in rows] for name, rows in document["channels"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        logger.warning("the statistics in %s are left out: %s", file, exc)
        return None


def _sums(row: Iterable[float]) -> ScoreSums:
    questions, scores, total, squares = row
    return ScoreSums(int(questions), int(scores), float(total), float(squares))
