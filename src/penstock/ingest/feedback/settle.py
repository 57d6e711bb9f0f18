"""Settles events of feedback: each gets exactly one outcome, once that is durable.

    1 parse    an event that is none, or of another encoder, becomes a dead letter
    2 order    of the events of one vote the newest counts; the click memory may know a newer one already
    3 asset    a choice of an asset that was deleted is not kept
    4 write    the votes that are left, acknowledged
    5 note     the dead letters, acknowledged

Offsets are committed after 5 (`ingest.feedback.lane`). Delivered again, the events get the same outcomes, and the click
memory is the same: a vote is written by its id, and an older one never replaces a newer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol

from penstock.broker import headers as names
from penstock.broker.base import Message, Producer
from penstock.broker.feedback_messages import parse_feedback
from penstock.errors import BadInputError, PermanentError, Reason, UnavailableError
from penstock.records import AssetRow, Choice, Outcome, Position, Record, Rejected
from penstock.store.clicks import ClickTable

_ACK_TIMEOUT_S = 40.0  # above the producer's own delivery timeout
STEP = "feedback"


class FeedbackOutcome(StrEnum):
    """The end of an event of feedback."""

    REMEMBERED = "remembered"
    SUPERSEDED = "superseded"  # a newer one of the same voter, question and asset counts
    DELETED = "deleted"  # its asset is not indexed any more
    DEAD_LETTERED = "dead_lettered"


class AssetRows(Protocol):
    """Reads asset rows."""

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        """See `AssetLookup.asset_rows`."""


class FeedbackSettler:
    """Settles batches of events, from one thread.

    Args:
        clicks: the click memory.
        assets: of the index.
        encoder: of the questions that the click memory compares, and the dimension of its vectors.
        producer: writes dead letters.
        dead_letter_topic: theirs.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        clicks: ClickTable,
        assets: AssetRows,
        encoder: tuple[str, int],
        producer: Producer,
        dead_letter_topic: str,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._clicks = clicks
        self._assets = assets
        self._encoder, self._dim = encoder
        self._producer = producer
        self._dead_letter_topic = dead_letter_topic
        self._now_ms = now_ms

    def settle(self, records: Sequence[Record]) -> Mapping[FeedbackOutcome, int]:
        """Carries out the steps at the head of this file, and returns the number of events by outcome.

        Raises:
            UnavailableError: a service does not answer; deliver the records again.
        """
        rejected: list[Rejected] = []
        choices = [choice for record in records if (choice := self._parse(record, rejected)) is not None]  # 1
        newest = newest_votes(choices)  # 2
        known = self._clicks.of_ids(sorted(newest))
        current = [choice for id_, choice in newest.items() if id_ not in known or not follows(known[id_], choice)]
        rows = self._assets.asset_rows(sorted({choice.asset.id for choice in current}))  # 3
        removed = {id_ for id_, row in rows.items() if row.outcome is not Outcome.INDEXED}
        kept = [choice for choice in current if choice.asset.id not in removed]
        refused = self._write(kept)  # 4
        rejected += refused
        self._note(rejected)  # 5
        counts = Counter[FeedbackOutcome]()
        counts[FeedbackOutcome.REMEMBERED] = len(kept) - len(refused)
        counts[FeedbackOutcome.DELETED] = len(current) - len(kept)
        counts[FeedbackOutcome.DEAD_LETTERED] = len(rejected)
        counts[FeedbackOutcome.SUPERSEDED] = len(choices) - len(current)
        return +counts

    def _parse(self, record: Record, rejected: list[Rejected]) -> Choice | None:
        try:
            choice = parse_feedback(record)
        except BadInputError as exc:
            rejected.append(Rejected(record.position, STEP, exc.reason, str(exc)))
            return None
        if choice.encoder != self._encoder:
            detail = f"the question was encoded by {choice.encoder}, and the click memory compares {self._encoder}"
            rejected.append(Rejected(record.position, STEP, Reason.UNSUPPORTED, detail))
            return None
        if len(choice.vector) != self._dim:  # a store refuses it, and some of them as if a retry could help
            detail = f"the vector has {len(choice.vector)} numbers, and those of {self._encoder} have {self._dim}"
            rejected.append(Rejected(record.position, STEP, Reason.MALFORMED, detail))
            return None
        return choice

    def _write(self, choices: Sequence[Choice]) -> list[Rejected]:
        """Writes choices, and returns those that the store refuses permanently."""
        try:
            if choices:
                self._clicks.put(choices)
            return []
        except PermanentError as exc:
            if len(choices) == 1:
                return [Rejected(choices[0].origin, STEP, Reason.REFUSED, str(exc))]
        middle = len(choices) // 2
        return [*self._write(choices[:middle]), *self._write(choices[middle:])]

    def _note(self, rejected: Sequence[Rejected]) -> None:
        """Writes dead letters without the contents of their events, which may hold the words of people."""
        sent = [self._producer.send(self._dead_letter(rejection)) for rejection in rejected]
        for future in sent:
            _acknowledged(future, self._dead_letter_topic)

    def _dead_letter(self, rejected: Rejected) -> Message:
        headers = (
            (names.REASON, rejected.reason.value.encode()),
            (names.STEP, rejected.step.encode()),
            (names.DETAIL, rejected.detail[:2_000].encode(errors="replace")),
            (names.ORIGIN, names.format_origin(rejected.position)),
            (names.FAILED_AT, str(self._now_ms()).encode()),
        )
        return Message(self._dead_letter_topic, names.format_origin(rejected.position), b"", headers)


def newest_votes(choices: Iterable[Choice]) -> dict[str, Choice]:
    """Returns the choice of each vote that no other one of these follows, by `Choice.id`."""
    newest: dict[str, Choice] = {}
    for choice in choices:
        known = newest.get(choice.id)
        if known is None or not follows(known, choice):
            newest[choice.id] = choice
    return newest


def follows(known: Choice, choice: Choice) -> bool:
    """Returns whether `known`, a choice of the same vote, came after `choice`.

    The time decides, as offsets begin again where a topic is created again; at equal times the offset does.
    """
    return (known.time_ms, known.origin.offset) > (choice.time_ms, choice.origin.offset)


def _acknowledged(sent: Future[Position], topic: str) -> None:
    try:
        sent.result(_ACK_TIMEOUT_S)
    except TimeoutError as exc:
        raise UnavailableError(f"{topic} did not take a dead letter in {_ACK_TIMEOUT_S:g} s") from exc
