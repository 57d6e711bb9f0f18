"""The JSON of `POST /v1/feedback`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr, StringConstraints

from penstock.records import MAX_SHOWN, Action, Position

EntryId = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{32}$")]


class FeedbackBody(BaseModel):
    """Carries what a person did with a hit of a question."""

    model_config = ConfigDict(extra="forbid")

    question: StrictStr = Field(
        min_length=1,
        max_length=10_000,
        description="the words that were searched for; only their vector is kept, unless feedback.keep_questions is on",
        examples=["a bird that catches fish"],
    )
    entry: EntryId = Field(description="`id` of the hit")
    action: Action = Field(
        Action.CLICK,
        description="click: it was opened; like: it answers the question; dislike: it does not, which takes an earlier "
        "choice of the same caller back",
    )
    rank: int = Field(1, ge=1, le=1_000_000, description="place of the hit when it was shown, from 1")
    shown: list[EntryId] = Field(
        default_factory=list, max_length=MAX_SHOWN, description="`id` of the hits that were shown, best first"
    )
    query_id: StrictStr = Field(
        "", max_length=128, description="your name of the search, kept with the event as `query_id`"
    )
    client_id: StrictStr = Field(
        "",
        max_length=128,
        description="your name of the user; only a digest of it is kept. It tells users apart where requests need no "
        "credentials, or the setting feedback.trust_client_ids is on",
    )
    tenant: StrictStr | None = Field(
        None, description="the owner of the hit; if absent, the caller's only one, or the default one if it reads all"
    )


class FeedbackPositionOut(BaseModel):
    """The Kafka position of an event of feedback."""

    topic: str
    partition: int
    offset: int


class FeedbackOut(BaseModel):
    """The event, once every in-sync replica of Kafka has it. It counts some seconds later."""

    vote: str = Field(description="32 hexadecimal digits: a caller has one for each question and asset")
    position: FeedbackPositionOut


def feedback_out(vote: str, position: Position) -> FeedbackOut:
    """Returns the JSON of an acknowledged event."""
    where = FeedbackPositionOut(topic=position.topic, partition=position.partition, offset=position.offset)
    return FeedbackOut(vote=vote, position=where)
