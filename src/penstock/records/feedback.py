"""Choices: what people pick among the hits of their questions, as events of feedback carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from penstock.records.entries import Entry
from penstock.records.events import AssetRef, digest_of
from penstock.records.kafka import Position
from penstock.records.media import Float32
from penstock.records.taxonomy import Collection

MAX_SHOWN = 100
"""Hits of one answer that an event of feedback names."""


NO_POSITION = Position("", 0, 0)
"""Of a choice whose event is not written yet."""


class Action(StrEnum):
    """Names what a person did with a hit. Values are those of User Behavior Insights where it has one."""

    CLICK = "click"  # opened it
    LIKE = "like"  # stated that it answers the question
    DISLIKE = "dislike"  # stated that it does not: takes the same person's earlier choice back


@dataclass(frozen=True, slots=True)
class Choice:
    """Records what a voter did with one hit of a question. The newest of a voter, a question and an asset is its vote.

    Attributes:
        asset, collection, entry_id: the hit.
        voter: who acted, 32 hexadecimal digits of the caller's name.
        question: 32 hexadecimal digits of the words, whatever their case and spaces.
        vector: float32[dim], L2-normalised, of the question.
        encoder: of the vector, as `query.calibrations.question_encoder` names it.
        action: what was done.
        rank: of the hit when it was shown, from 1.
        shown: ids of the entries of the answer, best first.
        time_ms: milliseconds since the epoch, by the query plane's clock.
        text: the words of the question; empty unless they are kept.
        origin: of its event.
    """

    asset: AssetRef
    collection: Collection
    entry_id: str
    voter: str
    question: str
    vector: Float32 = field(repr=False, compare=False)
    encoder: str
    action: Action
    rank: int
    shown: tuple[str, ...]
    time_ms: int
    text: str = field(default="", repr=False)
    origin: Position = NO_POSITION

    @property
    def id(self) -> str:
        """32 hexadecimal digits: a voter has one vote for a question and an asset."""
        return digest_of(self.voter, self.question, self.asset.id)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A remembered choice whose question is close to the present one.

    Attributes:
        choice: without its vector.
        cosine: of the two questions.
    """

    choice: Choice
    cosine: float


@dataclass(frozen=True, slots=True)
class ClickedEntry:
    """An entry that was chosen for questions close to the present one.

    Attributes:
        entry: as it is in the index now.
        log_odds: that it answers the question, by the choices alone.
        voters: how many callers chose it.
    """

    entry: Entry
    log_odds: float
    voters: int


def question_digest(text: str) -> str:
    """Returns 32 hexadecimal digits of the words of a question; case and spaces make no difference."""
    return digest_of(" ".join(text.casefold().split()))
