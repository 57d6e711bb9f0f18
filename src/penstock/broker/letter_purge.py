"""Removes the contents of dead letters from their topic, which has no limit of retention.

Kafka removes records only from the start of a partition. So the letters up to the last one that is to go are written
again at the end, and everything up to there is removed:

    1 select   the letters to purge, and the addresses of values that they keep in the asset store
    2 rewrite  up to the last of them: a purged letter without key, value, headers and detail; any other as it was
    3 remove   once all of these are acknowledged, the records up to the last one that is to go

A purged letter still says which event failed, when and why, so that the audit counts its event. An end between 2 and 3
leaves letters twice, which changes nothing; a repetition begins with 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from penstock.broker import headers as names
from penstock.broker.base import DeadLetter, LogRange, Message, Partition, Producer, TopicReader
from penstock.broker.deadletters import parse_dead_letter
from penstock.records import Position, Record

_WINDOW = 500  # messages sent and not acknowledged


@dataclass(slots=True)
class LetterSelection:
    """The dead letters to purge.

    Attributes:
        offsets: of them, by partition.
        uris: of values in the asset store.
    """

    offsets: dict[Partition, set[int]] = field(default_factory=dict)
    uris: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """The number of letters."""
        return sum(map(len, self.offsets.values()))


class LetterPurger:
    """Purges dead letters. For one thread.

    Args:
        reader: reads the topic.
        producer: writes to it.
        remove_before: removes the records of each partition below an offset.
        topic: the dead-letter topic.
    """

    def __init__(
        self,
        reader: TopicReader,
        producer: Producer,
        remove_before: Callable[[Mapping[Partition, int]], None],
        topic: str,
    ) -> None:
        self._reader = reader
        self._producer = producer
        self._remove_before = remove_before
        self._topic = topic

    def select(self, is_purged: Callable[[DeadLetter], bool]) -> LetterSelection:
        """Returns the letters for which the condition holds, of those that are not purged already."""
        selection = LetterSelection()
        for partition, log in self._reader.bounds([self._topic]).items():
            for record in self._reader.read(partition, log.start, log.end):
                letter = parse_dead_letter(record)
                if letter is None or letter.purged or not is_purged(letter):
                    continue
                selection.offsets.setdefault(partition, set()).add(record.position.offset)
                if letter.offloaded_uri is not None:
                    selection.uris.add(letter.offloaded_uri)
        return selection

    def purge(self, selection: LetterSelection) -> None:
        """Carries out steps 2 and 3.

        Raises:
            PermanentError: a letter cannot be written again; nothing of its partition was removed.
            UnavailableError: the broker does not answer; a repetition continues.
            ConfigError: this client may not remove records.
        """
        logs = self._reader.bounds([self._topic])
        for partition, offsets in selection.offsets.items():
            end = max(offsets) + 1
            self._rewrite(partition, LogRange(logs[partition].start, end), offsets)
            self._remove_before({partition: end})

    def _rewrite(self, partition: Partition, log: LogRange, purged: set[int]) -> None:
        unacknowledged: deque[Future[Position]] = deque()
        for record in self._reader.read(partition, log.start, log.end):
            message = _emptied(record) if record.position.offset in purged else _as_it_was(record)
            unacknowledged.append(self._producer.send(message))
            while len(unacknowledged) > _WINDOW:
                unacknowledged.popleft().result()
        for sent in unacknowledged:
            sent.result()


def _emptied(record: Record) -> Message:
    """Returns what remains of a letter: the origin of its event, the reason and step of its failure, and the times."""
    kept = (names.REASON, names.STEP, names.ORIGIN, names.ORIGIN_TIMESTAMP, names.FAILED_AT)
    headers = tuple((name, value) for name, value in record.headers if name in kept)
    position = record.position
    return Message(position.topic, None, b"", (*headers, (names.PURGED, b"1")), record.timestamp_ms, position.partition)


def _as_it_was(record: Record) -> Message:
    position = record.position
    return Message(position.topic, record.key, record.value, record.headers, record.timestamp_ms, position.partition)
