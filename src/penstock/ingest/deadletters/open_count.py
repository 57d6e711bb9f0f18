"""Counts the open dead letters: those whose event nothing has indexed or superseded since."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial

from penstock.assembly import open_assets, open_store
from penstock.assets import MissingAssetError, sha256_of
from penstock.broker.base import LogRange, Partition
from penstock.broker.deadletters import read_dead_letters
from penstock.broker.reader import KafkaReader
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.ingest.deadletters.resolution import RESOLVED, Resolution, Resolver
from penstock.ingest.deadletters.selection import ReadDeadLetters
from penstock.observability import metrics
from penstock.records import Position

logger = logging.getLogger(__name__)

INTERVAL_S = 30.0  # a count reads what is new in the topic, and the asset rows of what was open
_MAX_REMEMBERED = 50_000  # some 20 MB; older ones beyond stay in the count and are not compared again
_BATCH = 500  # of one query for asset rows


class OpenDeadLetters:
    """The open dead letters, one an event, as of the latest count. Each dead letter is read one time.

    Args:
        read: reads dead letters within ranges of offsets.
        bounds: returns the offsets of each partition of the dead-letter topic.
        resolver: returns what compares dead letters with asset rows, and knows the topics that there are at the call.
    """

    def __init__(
        self,
        read: ReadDeadLetters,
        bounds: Callable[[], Mapping[Partition, LogRange]],
        resolver: Callable[[], Resolver],
    ) -> None:
        self._read = read
        self._bounds = bounds
        self._resolver = resolver
        self._ends: dict[int, int] = {}  # the offset up to which each partition was read
        self._open: dict[Position, Resolution] = {}  # by the event's first position
        self._beyond = 0  # open ones that were too many to remember

    def count(self) -> int:
        """Reads new dead letters, compares all with the asset rows, and returns the number of open ones.

        Raises:
            UnavailableError: Kafka or the store does not answer; a repetition continues where this ended.
            ConfigError: the dead-letter topic does not exist.
        """
        logs = {partition.partition: log for partition, log in self._bounds().items()}
        if any(self._ends.get(number, 0) > log.end for number, log in logs.items()):  # it was created again
            self._ends, self._open, self._beyond = {}, {}, 0
        resolver = self._resolver()  # after the bounds: it knows the topics of all letters within them
        self._resolve_remembered(resolver, logs)
        self._read_new(resolver, logs)
        return len(self._open) + self._beyond

    def _resolve_remembered(self, resolver: Resolver, logs: Mapping[int, LogRange]) -> None:
        remembered = list(self._open.items())
        for first in range(0, len(remembered), _BATCH):
            batch = remembered[first : first + _BATCH]
            resolutions = resolver.resolve([resolution for _, resolution in batch])
            for (origin, _), resolution in zip(batch, resolutions, strict=True):
                log = logs.get(resolution.letter.partition)
                if resolution.status in RESOLVED or log is None or resolution.letter.offset < log.start:
                    del self._open[origin]

    def _read_new(self, resolver: Resolver, logs: Mapping[int, LogRange]) -> None:
        """Reads up to the ends that the topic had at the begin; an interruption forgets nothing."""

        def new(number: int) -> range:
            return range(self._ends.get(number, 0), logs[number].end if number in logs else 0)

        beyond = 0
        if any(self._ends.get(number, 0) < log.end for number, log in logs.items()):
            for letter, resolution in resolver.resolve_all(self._read(new)):
                beyond += not self._remember(letter.origin, resolution)
        self._ends = {number: log.end for number, log in logs.items()}
        self._beyond += beyond  # only now: what is interrupted is read again

    def _remember(self, origin: Position, resolution: Resolution) -> bool:
        """Remembers a resolution, or forgets one that is resolved; returns False if it is open and one too many."""
        if resolution.status in RESOLVED:
            self._open.pop(origin, None)
        elif origin in self._open or len(self._open) < _MAX_REMEMBERED:
            self._open[origin] = resolution
        else:
            return False
        return True


def count_open_until(stop: threading.Event, read_settings: Callable[[], Settings]) -> None:
    """Exports the number of open dead letters at every interval until `stop` is set; none while it is unknown."""
    settings = read_settings()
    store = open_store(settings.store)

    def resolver() -> Resolver:
        return Resolver.of(read_settings(), store.asset_rows, partial(_offloaded_value, settings))

    try:
        letters = OpenDeadLetters(partial(read_dead_letters, settings.kafka), partial(_bounds, settings), resolver)
        gauge = metrics.DEAD_LETTERS_OPEN.labels(settings.kafka.dead_letter_topic)
        while True:
            try:
                gauge.set(letters.count())
            except PenstockError as exc:
                gauge.set(metrics.UNKNOWN)
                logger.info("the open dead letters could not be counted and will be counted again: %s", exc)
            except Exception:  # whatever it is, the next count may succeed
                gauge.set(metrics.UNKNOWN)
                logger.exception("count of open dead letters: unexpected error; continuing")
            if stop.wait(INTERVAL_S):
                return
    finally:
        store.close()


def _bounds(settings: Settings) -> Mapping[Partition, LogRange]:
    with KafkaReader(settings.kafka) as reader:
        return reader.bounds([settings.kafka.dead_letter_topic])


def _offloaded_value(settings: Settings, uri: str) -> bytes:
    sha256 = sha256_of(uri)
    if sha256 is None:
        raise MissingAssetError(f"{uri} is not an address in the asset store")
    return open_assets(settings).read(sha256)
