"""Sends dead letters again, once what was wrong has been put right, and tells what became of each.

A replay is not a new event. It keeps the original key, value and headers, and says where and when the event first was;
it goes to the partition it came from, so that fence, in-flight rule and order of offsets hold for it as for the first
arrival. The writer then judges it by that first position: a newer version or a tombstone that came meanwhile, through
whichever partition, supersedes it, and a second replay of the same event changes nothing.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from penstock.broker import headers as names
from penstock.broker.base import DeadLetter, Message, Partition, PartitionLag, Producer
from penstock.broker.deadletters import DeadLetterFilter
from penstock.errors import PenstockError, PermanentError, UnavailableError
from penstock.ingest.deadletters.resolution import (
    RESOLVED,
    ReadLetters,
    Resolution,
    ResolutionStatus,
    Resolver,
    Selection,
    read_selected,
    select,
)
from penstock.records import Position

logger = logging.getLogger(__name__)

_WINDOW = 1_000  # replays sent and not acknowledged
_LOOK_S = 0.5  # between two looks at what the group has committed
_AT_ONCE = 500  # standings judged with one question to the store


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is to be sent again.

    Attributes:
        wanted: which; asked of the newest dead letter of each event.
        positions: partition and offset of dead letters; empty: all. An older one stands for its event too.
        limit: at most so many are sent; None: all.
        dry_run: sends nothing, and says what it would.
        wait_s: how long to wait until the replays are settled; 0: not at all.
    """

    filter: DeadLetterFilter = field(default_factory=DeadLetterFilter)
    positions: frozenset[tuple[int, int]] = frozenset()
    limit: int | None = None
    dry_run: bool = False
    wait_s: float = 60.0


class Replayer:
    """Replays dead letters, from one thread.

    Args:
        read: reads the dead-letter topic.
        judge: tells what became of an event.
        producer: of the media topics.
        lag: the partitions of the media topics, and how far the ingest plane's group is in them.
        show: what is being done, how much of it is done, and of how much; for a progress bar.
        clock, sleep: monotonic seconds, and how to wait for them.
    """

    def __init__(
        self,
        *,
        read: ReadLetters,
        resolver: Resolver,
        producer: Producer,
        lag: Callable[[], Sequence[PartitionLag]],
        show: Callable[[str, int, int | None], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._read = read
        self._judge = resolver
        self._producer = producer
        self._lag = lag
        self._show = show
        self._clock = clock
        self._sleep = sleep

    def replay(self, request: ReplayRequest) -> list[Resolution]:
        """Sends what is asked for and still open.

        1. choose   the newest dead letter of each event: one event is replayed once, however often it failed
        2. judge    those whose asset row is the same or newer are left alone: nothing would change
        3. send     the others, each to the partition where it first was, acknowledged
        4. wait     until the group has committed past them, or time is up
        5. judge    again, by asset rows and by dead letters that are new since step 1

        Returns:
            one standing for each chosen event, those that were resolved before included, in order of the dead letters.

        Raises:
            UsageError: there is no dead letter at one of the positions.
            UnavailableError: Kafka or the store does not answer. Running it again goes on where it ended.
        """
        chosen = select(self._read, request.filter, request.positions, self._show)
        standings = sorted(self._judge_and_send(chosen, request), key=lambda one: one.letter)
        sent = [one for one in standings if one.status is ResolutionStatus.SENT]
        if not sent or not request.wait_s:
            return standings
        waiting = self._wait(sent, request.wait_s)
        settled = {one.letter: one for one in self._judge_again(sent, waiting, chosen)}
        return [settled.get(one.letter, one) for one in standings]

    # --- 2 judge, 3 send --------------------------------------------------------------------------------------------

    def _judge_and_send(self, chosen: Selection, request: ReplayRequest) -> Iterator[Resolution]:
        if not chosen.letters:
            return
        logs = {one.partition: one for one in self._lag()}
        open_: deque[tuple[Resolution, Future[Position]]] = deque()
        sent = 0
        for number, (letter, one) in enumerate(self._judge.resolve_all(read_selected(self._read, chosen)), 1):
            if request.limit is not None and sent >= request.limit and one.status not in RESOLVED:
                break
            settled = self._refused(letter, one, logs) or one
            if settled.status is ResolutionStatus.OPEN and not request.dry_run:
                try:
                    open_.append((one, self._producer.send(_message(letter, self._value(letter)))))
                except PermanentError as exc:
                    settled = replace(one, status=ResolutionStatus.NOT_SENT, detail=str(exc))
            sent += settled.status is ResolutionStatus.OPEN
            if settled.status is not ResolutionStatus.OPEN or request.dry_run:
                yield settled
            while open_ and (open_[0][1].done() or len(open_) > _WINDOW):
                yield _acknowledged(*open_.popleft())
            self._show("sent", number, len(chosen.letters))
        for waiting in open_:
            yield _acknowledged(*waiting)

    def _refused(
        self, letter: DeadLetter, one: Resolution, logs: Mapping[Partition, PartitionLag]
    ) -> Resolution | None:
        """Why an open one cannot be sent, if it cannot."""
        why = _why_not(letter, self._judge.topics, logs) if one.status is ResolutionStatus.OPEN else ""
        return replace(one, status=ResolutionStatus.NOT_SENT, detail=why) if why else None

    def _value(self, letter: DeadLetter) -> bytes | None:
        return letter.value if letter.offloaded_uri is None else self._judge.read_offloaded(letter.offloaded_uri)

    # --- 4 wait -----------------------------------------------------------------------------------------------------

    def _wait(self, sent: Sequence[Resolution], wait_s: float) -> set[Position]:
        """The dead letters whose replays the group has not committed when time is up."""
        deadline_s = self._clock() + wait_s
        waiting = list(sent)
        while True:
            committed = self._committed()
            waiting = [one for one in waiting if not _past(one, committed)]
            self._show("settled", len(sent) - len(waiting), len(sent))
            if not waiting or self._clock() >= deadline_s:
                return {one.letter for one in waiting}
            self._sleep(_LOOK_S)

    def _committed(self) -> dict[Partition, int]:
        """Of each partition; nothing while the broker does not answer."""
        try:
            return {one.partition: one.committed or 0 for one in self._lag()}
        except UnavailableError as exc:
            logger.warning("waiting goes on: %s", exc)
            return {}

    # --- 5 judge again ----------------------------------------------------------------------------------------------

    def _judge_again(
        self, sent: Sequence[Resolution], waiting: Collection[Position], chosen: Selection
    ) -> Iterator[Resolution]:
        failed = self._failed_since({one.origin for one in sent}, chosen)
        for start in range(0, len(sent), _AT_ONCE):
            for one in self._judge.resolve(sent[start : start + _AT_ONCE]):
                if one.status is not ResolutionStatus.SENT:
                    yield one
                elif (letter := failed.get(one.origin)) is not None:
                    at = f"{letter.position.partition}@{letter.position.offset}"
                    yield replace(
                        one, status=ResolutionStatus.FAILED_AGAIN, detail=f"{letter.reason}: {letter.detail} ({at})"
                    )
                elif one.letter in waiting:
                    yield replace(
                        one, status=ResolutionStatus.WAITING, detail="not settled yet; `penstock status` shows the lag"
                    )
                else:
                    yield replace(one, status=ResolutionStatus.UNCLEAR, detail=_UNCLEAR)

    def _failed_since(self, origins: Collection[Position], chosen: Selection) -> dict[Position, DeadLetter]:
        """The newest dead letter of each event that was written after step 1, without its value."""
        failed: dict[Position, DeadLetter] = {}
        for letter in self._read(lambda partition: range(chosen.ends.get(partition, 0), sys.maxsize)):
            if letter.origin in origins:
                failed[letter.origin] = replace(letter, value=None)
        return failed


_UNCLEAR = (
    "committed, but neither its asset's row nor a new dead letter tells of it: is `tenant` here another than that of "
    "the ingest plane?"
)


def _why_not(letter: DeadLetter, topics: Collection[str], logs: Mapping[Partition, PartitionLag]) -> str:
    """Why a dead letter cannot be sent again; empty if it can."""
    origin = Partition(letter.origin.topic, letter.origin.partition)
    if origin.topic not in topics:
        return f"{origin.topic} is none of the media topics of the settings (kafka.*_topic)"
    if origin not in logs:
        return f"there is no {origin} any more; save the value and produce it as a new event"
    if letter.origin.offset >= logs[origin].log_end:
        return f"{letter.origin} is yet to come: the topic was made anew; save the value and produce it as a new event"
    if letter.key is None and letter.value is None and letter.offloaded_uri is None:
        return "a null value without a key names no asset, and no client can write it; send a tombstone with a key"
    return ""


def _message(letter: DeadLetter, value: bytes | None) -> Message:
    """The replay. Its own timestamp is the present: by the first one, retention might remove it before it is read."""
    added = (
        (names.ORIGIN, names.format_origin(letter.origin)),
        (names.ORIGIN_TIMESTAMP, str(letter.timestamp_ms).encode()),
    )
    return Message(letter.origin.topic, letter.key, value, (*letter.headers, *added), partition=letter.origin.partition)


def _acknowledged(one: Resolution, sent: Future[Position]) -> Resolution:
    try:
        return replace(one, status=ResolutionStatus.SENT, replayed_to=sent.result())
    except UnavailableError as exc:
        raise UnavailableError(f"{exc} What was replayed before is on its way; run it again to go on.") from exc
    except PenstockError as exc:
        return replace(one, status=ResolutionStatus.NOT_SENT, detail=str(exc))


def _past(one: Resolution, committed: Mapping[Partition, int]) -> bool:
    assert one.replayed_to is not None
    return committed.get(Partition(one.replayed_to.topic, one.replayed_to.partition), 0) > one.replayed_to.offset
