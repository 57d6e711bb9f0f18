"""Writes what people choose to the topic of feedback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from penstock.auth.principal import ANONYMOUS
from penstock.broker.base import Producer
from penstock.broker.feedback_messages import feedback_message
from penstock.config import FeedbackSettings
from penstock.errors import QueryError, UnavailableError
from penstock.observability import audit_log
from penstock.query.embed import QueryEncoder
from penstock.query.understand.text import normalise_text
from penstock.records import Access, Action, Choice, Position, question_digest
from penstock.records.events import digest_of
from penstock.serve.use_cases.entry_lookup import EntryLookup

_ACK_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0
OFF = "this query plane takes no feedback: set feedback.enabled and kafka.bootstrap_servers"


@dataclass(frozen=True, slots=True)
class FeedbackRequest:
    """Carries what a person did, as the client sent it.

    Attributes:
        question: the words that were searched for.
        entry_id: the hit.
        action: what was done with it.
        rank: when it was shown, from 1.
        shown: ids of the entries of the answer.
        query_id: the client's name of the search.
        client_id: the client's name of the user.
    """

    question: str = field(repr=False)
    entry_id: str
    action: Action
    rank: int
    shown: tuple[str, ...]
    query_id: str
    client_id: str


@dataclass(frozen=True, slots=True)
class QuestionEncoder:
    """Encodes the questions of choices.

    Attributes:
        encoder: of the query plane.
        role: by which it encodes questions (`Profile.query_encoder`).
        name: of what it does, which the click memory compares (`encoders.questions.question_encoder`).
    """

    encoder: QueryEncoder
    role: str
    name: str


class FeedbackService:
    """The use case behind `POST /v1/feedback`.

    Args:
        open_producer: connects to Kafka, whose topic it creates where it is missing; called in a thread, at the first
            event and again after it failed. None: no feedback is taken.
        questions: encodes the questions.
        entries: reads the entries that requests name.
        settings: the topic, and what is kept.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        open_producer: Callable[[], Producer] | None,
        questions: QuestionEncoder,
        entries: EntryLookup,
        settings: FeedbackSettings,
        *,
        wall_ms: Callable[[], int],
    ) -> None:
        self._open_producer = open_producer
        self._questions = questions
        self._entries = entries
        self._settings = settings
        self._wall_ms = wall_ms
        self._producer: Producer | None = None
        self._lock = threading.Lock()

    @property
    def is_taken(self) -> bool:
        """Whether feedback is taken at all."""
        return self._open_producer is not None

    async def give(self, request: FeedbackRequest, *, access: Access, subject: str) -> tuple[str, Position]:
        """Returns the vote and the position of the event, once it is acknowledged.

        Args:
            request: what was done.
            access: the entries that the caller may read, and so choose.
            subject: the caller, as its credentials prove.

        Raises:
            QueryError: 404, there is no such entry that the access allows; the question is empty or no text.
            UnavailableError: no feedback is taken, or Kafka or the store does not answer.
        """
        if self._open_producer is None:
            raise UnavailableError(OFF)
        question = normalise_text(request.question, name="question", field="/question")
        audit_log.note(tenant=access.tenant, text=question)
        entry = (await self._entries.entries([request.entry_id], access)).get(request.entry_id)
        if entry is None:
            raise QueryError(f"tenant {access.tenant} has no entry {request.entry_id}", status=404, field="/entry")
        questions = self._questions
        choice = Choice(
            asset=entry.asset,
            collection=entry.collection,
            entry_id=entry.id,
            voter=self._voter(access.tenant, subject, request.client_id),
            question=question_digest(question),
            vector=await questions.encoder.encode_text(questions.role, question),
            encoder=questions.name,
            action=request.action,
            rank=request.rank,
            shown=request.shown,
            time_ms=self._wall_ms(),
            text=question if self._settings.keep_questions else "",
        )
        message = feedback_message(self._settings.topic, choice, query_id=request.query_id)
        producer = await asyncio.to_thread(self._connected)
        return choice.id, await _acknowledged(producer.send(message), self._settings.topic)

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(_CLOSE_TIMEOUT_S)

    def _voter(self, tenant: str, subject: str, client_id: str) -> str:
        """Returns the digest of the voter. The client\'s word counts where it is trusted, or callers are not known."""
        believed = self._settings.trust_client_ids or subject == ANONYMOUS.subject
        return digest_of("voter", tenant, subject, client_id if believed else "")

    def _connected(self) -> Producer:
        with self._lock:
            if self._producer is None:
                assert self._open_producer is not None
                self._producer = self._open_producer()
            return self._producer


async def _acknowledged(sent: Future[Position], topic: str) -> Position:
    try:
        async with asyncio.timeout(_ACK_TIMEOUT_S):
            return await asyncio.wrap_future(sent)
    except TimeoutError as exc:
        raise UnavailableError(
            f"{topic} did not acknowledge the event within {_ACK_TIMEOUT_S:g} s; it may still be kept. Send it again: "
            "a vote counts once"
        ) from exc
