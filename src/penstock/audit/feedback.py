"""Proves that every event of feedback has exactly one outcome, as `penstock audit` does for events of media.

The order of the steps is right while everything runs:

1. committed     The group's committed offsets are read first: what lies below was settled before.
2. dead letters  To an end read after 1. An event that has one has its outcome.
3. events        The other events below the committed offsets, of each vote the newest.
4. votes         The click memory, and the asset rows of the votes that it lacks.

A vote that is there, or a newer one, accounts for its events. One that is not there has to be of an asset that was
deleted after it, perhaps to be indexed again, or so old that the sweep has removed it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from penstock.assembly import open_clicks, open_store
from penstock.broker import headers as names
from penstock.broker.base import Partition, TopicReader
from penstock.broker.feedback_messages import parse_feedback
from penstock.broker.reader import KafkaReader
from penstock.config import Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.encoders.profiles.record import with_selected_profile
from penstock.encoders.questions import question_encoder
from penstock.errors import BadInputError
from penstock.ingest.feedback.settle import AssetRows, follows
from penstock.ingest.feedback.sweep import oldest_ms
from penstock.records import Choice, Outcome, Position, Record
from penstock.store.clicks import NO_VECTOR, ClickTable

MAX_MISSING = 100
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class FeedbackAudit:
    """The counts of the events that the group has committed.

    Attributes:
        events: all of them.
        remembered: their vote is in the click memory.
        superseded: a newer one of their vote is.
        deleted: their asset is not indexed any more.
        expired: they were too old to count, and are removed.
        dead_lettered: a dead letter notes them.
        missing: events without an outcome, at most `MAX_MISSING` of them.
        unsettled: events that the group has not committed.
    """

    events: int
    remembered: int
    superseded: int
    deleted: int
    expired: int
    dead_lettered: int
    missing: tuple[str, ...]
    unsettled: int

    @property
    def balanced(self) -> bool:
        """Whether every event has exactly one outcome."""
        settled = self.remembered + self.superseded + self.deleted + self.expired + self.dead_lettered
        return not self.missing and settled == self.events


@dataclass(slots=True)
class _Events:
    """The events of the topic, of which only votes and positions stay in memory."""

    count: int = 0
    superseded: int = 0
    dead_lettered: int = 0
    unparsed: list[str] = field(default_factory=list)
    newest: dict[str, Choice] = field(default_factory=dict)
    unsettled: int = 0


def audit_feedback(
    reader: TopicReader,
    clicks: ClickTable,
    assets: AssetRows,
    *,
    topic: str,
    dead_letter_topic: str,
    kept_since_ms: int,
) -> FeedbackAudit:
    """Carries out the steps at the head of this file.

    Args:
        reader: of the group of feedback.
        clicks: the click memory.
        assets: of the index.
        topic, dead_letter_topic: of feedback.
        kept_since_ms: choices before it may be removed, milliseconds since the epoch.

    Raises:
        UnavailableError, ConfigError, PermanentError: as the reader and the stores do.
    """
    committed = {lag.partition: lag.committed or 0 for lag in reader.lag([topic])}  # 1
    noted = set(_dead_letters(reader, dead_letter_topic))  # 2
    events = _read_events(reader, topic, committed, noted)  # 3
    missing = list(events.unparsed)
    counts = dict.fromkeys(("remembered", "superseded", "deleted", "expired"), 0)
    votes = list(events.newest.items())
    for start in range(0, len(votes), _PAGE):  # 4
        page = dict(votes[start : start + _PAGE])
        for id_, outcome in _outcomes(page, clicks, assets, kept_since_ms).items():
            if outcome is None:
                missing.append(str(page[id_].origin))
            else:
                counts[outcome] += 1
    return FeedbackAudit(
        events=events.count,
        remembered=counts["remembered"],
        superseded=events.superseded + counts["superseded"],
        deleted=counts["deleted"],
        expired=counts["expired"],
        dead_lettered=events.dead_lettered,
        missing=tuple(missing[:MAX_MISSING]),
        unsettled=events.unsettled,
    )


def run_feedback_audit(settings: Settings) -> FeedbackAudit:
    """Audits the feedback of the settings. Raises as `audit_feedback` does."""
    kafka, feedback = settings.kafka, settings.feedback
    profile = load_profile(with_selected_profile(settings).profile)
    group = kafka.model_copy(update={"group": f"{kafka.group}.feedback"})
    with ExitStack() as opened:
        clicks = open_clicks(settings.store, question_encoder(profile, profile_fingerprints(profile)))
        opened.callback(clicks.close)
        store = open_store(settings.store)
        opened.callback(store.close)
        return audit_feedback(
            opened.enter_context(KafkaReader(group)),
            clicks,
            store,
            topic=feedback.topic,
            dead_letter_topic=feedback.dead_letter_topic,
            kept_since_ms=oldest_ms(time.time_ns() // 1_000_000, feedback.half_life_days),
        )


def _outcomes(
    votes: Mapping[str, Choice], clicks: ClickTable, assets: AssetRows, kept_since_ms: int
) -> dict[str, str | None]:
    """Returns what became of the newest event of each vote; None: nothing."""
    known = clicks.of_ids(list(votes))
    lost = {id_: vote for id_, vote in votes.items() if id_ not in known}
    rows = assets.asset_rows(sorted({vote.asset.id for vote in lost.values()}))
    outcomes: dict[str, str | None] = {}
    for id_, vote in votes.items():
        row = rows.get(vote.asset.id)
        if id_ in known:
            ours = known[id_]
            is_older = follows(vote, ours)
            outcomes[id_] = None if is_older else "remembered" if ours.origin == vote.origin else "superseded"
        elif row is not None and (row.outcome is not Outcome.INDEXED or row.version.timestamp_ms > vote.time_ms):
            outcomes[id_] = "deleted"
        else:
            outcomes[id_] = "expired" if vote.time_ms < kept_since_ms else None
    return outcomes


def _read_events(
    reader: TopicReader, topic: str, committed: Mapping[Partition, int], noted: Collection[Position]
) -> _Events:
    events = _Events()
    for partition, log in reader.bounds([topic]).items():
        end = min(committed.get(partition, 0), log.end)
        events.unsettled += max(0, log.end - max(end, log.start))
        for record in reader.read(partition, log.start, end):
            events.count += 1
            if record.position in noted:
                events.dead_lettered += 1
            else:
                _add(events, record)
    return events


def _add(events: _Events, record: Record) -> None:
    try:
        choice = replace(parse_feedback(record), vector=NO_VECTOR, shown=(), text="")
    except BadInputError:
        events.unparsed.append(str(record.position))
        return
    known = events.newest.get(choice.id)
    if known is not None:
        events.superseded += 1
    if known is None or not follows(known, choice):
        events.newest[choice.id] = choice


def _dead_letters(reader: TopicReader, topic: str) -> Iterator[Position]:
    for partition, log in reader.bounds([topic]).items():
        for record in reader.read(partition, log.start, log.end):
            yield from _origins(record)


def _origins(record: Record) -> Sequence[Position]:
    value = dict(record.headers).get(names.ORIGIN)
    try:
        return [] if value is None else [names.parse_origin(value)]
    except BadInputError:
        return []
