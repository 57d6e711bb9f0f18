"""Settings of feedback: what people choose among the hits of their questions."""

from __future__ import annotations

from pydantic import Field

from penstock.config.section import Section


class FeedbackSettings(Section):
    """Keeps what people choose, and ranks by it. Off unless the operator switches it on."""

    enabled: bool = Field(
        False,
        description="takes choices (`POST /v1/feedback`), remembers them, and ranks by them where the calibration "
        "knows how much they say",
    )
    topic: str = Field(
        "search.feedback", min_length=1, max_length=249, description="topic of the choices, created where it is missing"
    )
    dead_letter_topic: str = Field(
        "search.feedback.dead-letters",
        min_length=1,
        max_length=249,
        description="topic that notes each event of feedback that cannot be remembered: its position and the reason",
    )
    retention_days: float = Field(
        90.0, gt=0, description="age at which Kafka may remove events of feedback from a topic that Penstock creates"
    )
    keep_questions: bool = Field(
        False,
        description="keeps the words of a question beside its vector, for labels and pairs to train with; they are "
        "text of people",
    )
    min_voters: int = Field(
        2,
        ge=1,
        le=10,
        description="callers whose choices have to agree: the strongest ones, one fewer than this, count for nothing. "
        "1 is for an index with one user",
    )
    trust_client_ids: bool = Field(
        False,
        description="tells apart the users behind one caller by the `client_id` that it sends, as for a site that "
        "sends one key for all of its users; the holder of that key can then vote any number of times",
    )
    half_life_days: float = Field(
        90.0, gt=0, description="age at which a choice counts half; after six of them it is removed"
    )
