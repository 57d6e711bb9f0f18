"""Produces dead letters again, once their cause is fixed, and reports what became of each.

A replay is not a new event. It keeps the original key, value and headers, and carries where and when the event was
first produced. It goes to the partition it came from, so that the fence, the in-flight rule and the order of offsets
hold for it as for the first arrival. The writer then orders it by that first position: a newer version or a tombstone
that arrived since, through any partition, supersedes it, and a second replay of the same event changes nothing.
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
from penstock.ingest.deadletters.resolution import RESOLVED, Resolution, ResolutionStatus, Resolver
from penstock.ingest.deadletters.selection import ReadDeadLetters, Selection, read_selected, select
from penstock.records import Position

logger = logging.getLogger(__name__)

_WINDOW = 1_000  # replays sent and not acknowledged
_POLL_S = 0.5  # between two reads of the group's committed offsets
_MAX_RESOLUTIONS = 500  # of one query to the store


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The dead letters to produce again, and how to do it.

    Attributes:
        filter: the conditions, applied to the newest dead letter of each event.
        positions: partition and offset of dead letters; empty: all. An older one stands for its event too.
        limit: the largest number to send; None: all.
        dry_run: sends nothing, and reports what would be sent.
        wait_s: the longest wait until the replays are settled; 0: none.
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
        resolver: finds out what became of an event.
        producer: of the media topics.
        sign: returns a replay with its signature (`ReplayKeys.signed`).
        lag: the partitions of the media topics, with the committed offsets of the ingest plane's group.
        show: receives the present activity, how much of it is done, and the total, for a progress bar.
        clock, sleep: monotonic seconds, and a wait of a number of them.
    """

    def __init__(
        self,
        *,
        read: ReadDeadLetters,
        resolver: Resolver,
        producer: Producer,
        sign: Callable[[Message], Message],
        lag: Callable[[], Sequence[PartitionLag]],
        show: Callable[[str, int, int | None], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._read = read
        self._resolver = resolver
        self._producer = producer
        self._sign = sign
        self._lag = lag
        self._show = show
        self._clock = clock
        self._sleep = sleep

    def replay(self, request: ReplayRequest) -> list[Resolution]:
        """Sends the selected dead letters that are open.

        1. select    the newest dead letter of each event: one event is replayed one time, however often it failed
        2. resolve   those whose asset row is the same or newer are left alone: nothing would change
        3. send      the others, each to the partition of its origin, acknowledged
        4. wait      until the group has committed past them, or the time is over
        5. resolve   again, by asset rows and by dead letters that are new since step 1

        Returns:
            one resolution for each selected event, those resolved before included, in the order of the dead letters.

        Raises:
            UsageError: there is no dead letter at one of the positions.
            UnavailableError: Kafka or the store does not answer. A repetition continues where this ended.
        """
        selection = select(self._read, request.filter, request.positions, self._show)  # 1
        resolutions = sorted(self._resolve_and_send(selection, request), key=lambda resolution: resolution.letter)
        sent = [resolution for resolution in resolutions if resolution.status is ResolutionStatus.SENT]
        if not sent or not request.wait_s:
            return resolutions
        waiting = self._wait(sent, request.wait_s)  # 4
        final = {resolution.letter: resolution for resolution in self._resolve_sent(sent, waiting, selection)}  # 5
        return [final.get(resolution.letter, resolution) for resolution in resolutions]

    # --- 2 resolve, 3 send ------------------------------------------------------------------------------------------

    def _resolve_and_send(self, selection: Selection, request: ReplayRequest) -> Iterator[Resolution]:
        if not selection.letters:
            return
        logs = {lag.partition: lag for lag in self._lag()}
        unacknowledged: deque[tuple[Resolution, Future[Position]]] = deque()
        sent = 0
        letters = read_selected(self._read, selection)
        for number, (letter, present) in enumerate(self._resolver.resolve_all(letters), 1):  # 2
            if request.limit is not None and sent >= request.limit and present.status not in RESOLVED:
                break
            resolution = self._refused(letter, present, logs) or present
            if resolution.status is ResolutionStatus.OPEN and not request.dry_run:
                try:
                    future = self._producer.send(self._sign(_message(letter, self._value(letter))))  # 3
                    unacknowledged.append((resolution, future))
                except PermanentError as exc:
                    resolution = replace(resolution, status=ResolutionStatus.NOT_SENT, detail=str(exc))
            sent += resolution.status is ResolutionStatus.OPEN
            if resolution.status is not ResolutionStatus.OPEN or request.dry_run:
                yield resolution
            while unacknowledged and (unacknowledged[0][1].done() or len(unacknowledged) > _WINDOW):
                yield _acknowledged(*unacknowledged.popleft())
            self._show("sent", number, len(selection.letters))
        for resolution, future in unacknowledged:
            yield _acknowledged(resolution, future)

    def _refused(
        self, letter: DeadLetter, resolution: Resolution, logs: Mapping[Partition, PartitionLag]
    ) -> Resolution | None:
        """Returns the resolution of an open dead letter that cannot be sent; None if it can."""
        if resolution.status is not ResolutionStatus.OPEN:
            return None
        obstacle = _obstacle(letter, self._resolver.topics, logs)
        return replace(resolution, status=ResolutionStatus.NOT_SENT, detail=obstacle) if obstacle else None

    def _value(self, letter: DeadLetter) -> bytes | None:
        return letter.value if letter.offloaded_uri is None else self._resolver.read_offloaded(letter.offloaded_uri)

    # --- 4 wait -----------------------------------------------------------------------------------------------------

    def _wait(self, sent: Sequence[Resolution], wait_s: float) -> set[Position]:
        """Returns the dead letters whose replays the group has not committed when the time is over."""
        deadline_s = self._clock() + wait_s
        waiting = list(sent)
        while True:
            committed = self._committed()
            waiting = [resolution for resolution in waiting if not _is_committed(resolution, committed)]
            self._show("settled", len(sent) - len(waiting), len(sent))
            if not waiting or self._clock() >= deadline_s:
                return {resolution.letter for resolution in waiting}
            self._sleep(_POLL_S)

    def _committed(self) -> dict[Partition, int]:
        """Returns the committed offset of each partition; nothing while the broker does not answer."""
        try:
            return {lag.partition: lag.committed or 0 for lag in self._lag()}
        except UnavailableError as exc:
            logger.warning("committed offsets are unavailable, waiting continues: %s", exc)
            return {}

    # --- 5 resolve again --------------------------------------------------------------------------------------------

    def _resolve_sent(
        self, sent: Sequence[Resolution], waiting: Collection[Position], selection: Selection
    ) -> Iterator[Resolution]:
        failed = self._failed_since({resolution.origin for resolution in sent}, selection)
        for start in range(0, len(sent), _MAX_RESOLUTIONS):
            for resolution in self._resolver.resolve(sent[start : start + _MAX_RESOLUTIONS]):
                if resolution.status is not ResolutionStatus.SENT:
                    yield resolution
                elif (letter := failed.get(resolution.origin)) is not None:
                    detail = f"{letter.reason}: {letter.detail} ({letter.position.partition}@{letter.position.offset})"
                    yield replace(resolution, status=ResolutionStatus.FAILED_AGAIN, detail=detail)
                elif resolution.letter in waiting:
                    yield replace(resolution, status=ResolutionStatus.WAITING, detail=_WAITING)
                else:
                    yield replace(resolution, status=ResolutionStatus.UNCLEAR, detail=_UNCLEAR)

    def _failed_since(self, origins: Collection[Position], selection: Selection) -> dict[Position, DeadLetter]:
        """Returns the newest dead letter of each event that was written after step 1, without its value."""
        failed: dict[Position, DeadLetter] = {}
        for letter in self._read(lambda partition: range(selection.ends.get(partition, 0), sys.maxsize)):
            if letter.origin in origins:
                failed[letter.origin] = replace(letter, value=None)
        return failed


_WAITING = "not settled yet; `penstock status` shows the lag"
_UNCLEAR = (
    "committed, but neither its asset's row nor a new dead letter shows it: is `tenant` here another than that of the "
    "ingest plane?"
)


def _obstacle(letter: DeadLetter, topics: Collection[str], logs: Mapping[Partition, PartitionLag]) -> str:
    """Returns why a dead letter cannot be sent again; empty if it can."""
    origin = Partition(letter.origin.topic, letter.origin.partition)
    if origin.topic not in topics:
        return f"{origin.topic} is none of the media topics of the settings (kafka.*_topic)"
    if origin not in logs:
        return f"there is no {origin} any more; save the value and produce it as a new event"
    if letter.origin.offset >= logs[origin].log_end:
        return (
            f"{letter.origin} does not exist yet: the topic was created again; save the value and produce it as a new "
            "event"
        )
    if letter.key is None and letter.value is None and letter.offloaded_uri is None:
        return "a null value without a key names no asset, and no client can write it; send a tombstone with a key"
    return ""


def _message(letter: DeadLetter, value: bytes | None) -> Message:
    """Returns the replay, not signed yet.

    Its timestamp is the present: by the original one, retention might remove it unread.
    """
    added = (
        (names.ORIGIN, names.format_origin(letter.origin)),
        (names.ORIGIN_TIMESTAMP, str(letter.timestamp_ms).encode()),
    )
    return Message(letter.origin.topic, letter.key, value, (*letter.headers, *added), partition=letter.origin.partition)


def _acknowledged(resolution: Resolution, sent: Future[Position]) -> Resolution:
    try:
        return replace(resolution, status=ResolutionStatus.SENT, replayed_to=sent.result())
    except UnavailableError as exc:
        raise UnavailableError(f"{exc} Earlier replays are on their way; run it again to continue.") from exc
    except PenstockError as exc:
        return replace(resolution, status=ResolutionStatus.NOT_SENT, detail=str(exc))


def _is_committed(resolution: Resolution, committed: Mapping[Partition, int]) -> bool:
    replay = resolution.replayed_to
    assert replay is not None
    return committed.get(Partition(replay.topic, replay.partition), 0) > replay.offset
