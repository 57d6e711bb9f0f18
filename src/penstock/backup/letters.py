"""Writes the dead letters of a backup that their topic has lost, once, however often it is restored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from functools import cached_property

from penstock.broker.base import Message, Partition, Producer, TopicReader, partition_of
from penstock.records import Record

_ACK_S = 60.0


class LetterRestorer:
    """Writes lost dead letters. For one thread.

    One is lost if the topic never came to its offset: it was created again, or is that of another broker. An earlier
    restore has perhaps written it, at another offset; so the topic is read, once there is one to write.

    Args:
        reader: reads the topic.
        producer: writes to it.
        topic: its name; it exists.
    """

    def __init__(self, reader: TopicReader, producer: Producer, topic: str) -> None:
        self._reader = reader
        self._producer = producer
        self._topic = topic
        self._logs = reader.bounds([topic])

    def write(self, letters: Sequence[Record]) -> int:
        """Writes the lost ones of these letters, and returns their number once the broker has them."""
        beyond = [letter for letter in letters if self._is_beyond(letter)]
        sent = [self._producer.send(self._message(letter)) for letter in beyond if _digest(letter) not in self._present]
        for future in sent:
            future.result(_ACK_S)
        return len(sent)

    def _is_beyond(self, letter: Record) -> bool:
        log = self._logs.get(partition_of(letter.position))
        return log is None or letter.position.offset >= log.end

    @cached_property
    def _present(self) -> Set[bytes]:
        """The hashes of all letters that the topic had at the start."""
        return {
            _digest(letter)
            for partition, log in self._logs.items()
            if log.start < log.end
            for letter in self._reader.read(partition, log.start, log.end)
        }

    def _message(self, letter: Record) -> Message:
        number = letter.position.partition
        partition = number if Partition(self._topic, number) in self._logs else None
        return Message(self._topic, letter.key, letter.value, letter.headers, letter.timestamp_ms, partition)


def _digest(letter: Record) -> bytes:
    """Returns a hash of what is in a letter, its headers with the time of failure among it; not of the record's time.

    That one a topic may set itself.
    """
    digest = hashlib.blake2b(digest_size=16)
    pieces = [letter.key, letter.value, *(piece for name, value in letter.headers for piece in (name.encode(), value))]
    for piece in pieces:
        digest.update(b"null," if piece is None else b"%d:" % len(piece))
        digest.update(piece or b"")
    return digest.digest()
