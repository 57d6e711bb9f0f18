"""Step 3, embed: the embeddings of a query, in one batch with those of concurrent queries.

Batching adds no wait: an idle encoder takes the first query immediately, and those that arrive while it is busy become
the next batch. So batches grow with the load by themselves, and no timer has to be tuned.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from penstock.encoders.base import Encoder
from penstock.encoders.cache import VectorCache
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, role_of
from penstock.encoders.rerank import PassageScorer
from penstock.errors import OverloadedError, PermanentError, QueryError
from penstock.query.adapters import AdapterSet
from penstock.query.parts.inputs import ComposedInput, EmbeddingInput, ImageInput, SingleInput, StoredInput, TextInput
from penstock.query.parts.vectors import compose_vectors
from penstock.query.types import ChannelQuery
from penstock.records import Encoded, EncoderInput, Field, Float32, ImageRegion, UInt8

# A sentence encoder takes little longer for a batch of 32 short texts than for one; beyond, waiting in turn is fairer.
MAX_BATCH = 32
# Some ten batches: at a hundred milliseconds each, more than a deadline's worth.
MAX_WAITING = 256
RETRY_AFTER_S = 1.0


class QueryEncoder(Protocol):
    """Makes query vectors. Safe to use by many tasks of one event loop."""

    async def encode_text(self, encoder: str, text: str) -> Float32:
        """Returns the embedding of a text, float32[dim], L2-normalised.

        Args:
            encoder: as `Profile.query_encoder` names it.
            text: a query.

        Raises:
            OverloadedError: too many queries wait.
            PermanentError: the encoder fails on this text, every time.
            TransientError: the encoder's device is lost.
        """

    async def encode_image(self, data: bytes, region: ImageRegion | None) -> Float32:
        """Returns the embedding of an encoded image, or of a region of it, by `joint.image`, as `encode_text` does.

        Raises:
            QueryError: the bytes are not an image, or one that is too large.
            OverloadedError, PermanentError, TransientError: as above.
        """


# --- the vectors of one query ----------------------------------------------------------------------------------------

QueryVectors: TypeAlias = Mapping[EmbeddingInput, asyncio.Task[Float32]]


@contextmanager
def start_embedding(
    encoder: QueryEncoder,
    queries: Sequence[ChannelQuery],
    *,
    on_done: Callable[[], None],
    adapters: AdapterSet | None = None,
) -> Iterator[QueryVectors]:
    """Starts a task for each distinct input of these queries; cancels those that are unfinished at the end.

    A composed input is computed from the tasks of its members, which other inputs share. So is a text for a field from
    the text as it is encoded.

    Args:
        encoder: makes the vectors.
        queries: searched for vectors or texts.
        on_done: called as each task ends.
        adapters: map the vectors of texts for the fields that they search; None: there are none.
    """
    in_use = adapters or AdapterSet()
    vectors: dict[EmbeddingInput, asyncio.Task[Float32]] = {}

    def start(content: EmbeddingInput) -> None:
        if content not in vectors:
            if isinstance(content, ComposedInput):
                for member in content.members():
                    start(member)
                vectors[content] = asyncio.create_task(_compose(content, vectors))
            elif isinstance(content, TextInput) and content.searched is not None:
                start(encoded := replace(content, searched=None))
                vectors[content] = asyncio.create_task(_adapt(in_use, content, content.searched, vectors[encoded]))
            else:
                vectors[content] = asyncio.create_task(_embed(encoder, content))
            vectors[content].add_done_callback(lambda _: on_done())

    for query in queries:
        if not isinstance(query.search_for, str):
            start(query.search_for)
    try:
        yield vectors
    finally:
        _cancel_unused(vectors.values())


def question_vector(vectors: QueryVectors, text: str | None) -> Float32 | None:
    """Returns the vector of a text as the sentence encoder gives it, float32[dim]; None: it is not computed by now."""
    for content, task in vectors.items():
        if not isinstance(content, TextInput) or content.searched is not None:
            continue
        if content.text == text and role_of(content.encoder) == PASSAGE_TEXT:
            computed = task.done() and not task.cancelled() and task.exception() is None
            return task.result() if computed else None
    return None


async def _embed(encoder: QueryEncoder, content: SingleInput) -> Float32:
    match content:
        case TextInput():
            return await encoder.encode_text(content.encoder, content.text)
        case StoredInput():
            return content.vector
        case ImageInput():
            try:
                return await encoder.encode_image(content.image, content.region)
            except QueryError as exc:  # the encoder does not know which part of the request the image is
                raise QueryError(str(exc), status=exc.status, field=content.pointer) from exc


async def _adapt(adapters: AdapterSet, content: TextInput, searched: Field, encoded: asyncio.Task[Float32]) -> Float32:
    """Waits for the vector of the encoder, which other inputs may wait for, too."""
    return adapters.adapt(content.encoder, searched, content.text, await asyncio.shield(encoded))


async def _compose(content: ComposedInput, vectors: QueryVectors) -> Float32:
    """Waits for the vectors of its members. They are shielded, as other inputs may wait for them, too."""
    terms = [
        (term.weight, [await asyncio.shield(vectors[member]) for member in term.members]) for term in content.terms
    ]
    return compose_vectors(terms)


def _cancel_unused(tasks: Iterable[asyncio.Task[Float32]]) -> None:
    """Cancels unfinished tasks, and retrieves the exceptions of the others, which asyncio would log."""
    for task in tasks:
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()


# --- the encoders of a replica ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _QueuedItem:
    """An item in the queue of its encoder."""

    encoder: str
    key: str
    item: str | UInt8
    done: asyncio.Future[Float32]

    def succeed(self, vector: Float32) -> None:
        if not self.done.cancelled():  # the request that waited for it has given up
            self.done.set_result(vector)

    def fail(self, error: Exception) -> None:
        if not self.done.cancelled():
            self.done.set_exception(error)


class BatchingQueryEncoder:
    """Runs the encoders of a profile in one thread of this process, batched across requests and cached.

    Args:
        encoders: by role. After this call only this object uses them.
        decode_image: encoded image, and a region of it or None → uint8[size, size, 3] of the image encoder's size;
            raises `QueryError`.
        cache_size: vectors to keep; the least recently used are evicted first.
        scorer: scores passages, perhaps with the sentence encoder; None: nothing is reranked.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        *,
        decode_image: Callable[[bytes, ImageRegion | None], UInt8],
        cache_size: int,
        scorer: PassageScorer | None = None,
    ) -> None:
        self._scorer = scorer
        self._encoders = dict(encoders)
        self._decode_image = decode_image
        self.cache: VectorCache[tuple[str, str]] = VectorCache(cache_size, count_as="query")
        self._computing: dict[tuple[str, str], asyncio.Task[Float32]] = {}
        self._queue: list[_QueuedItem] = []
        self._worker: asyncio.Task[None] | None = None
        # One thread: an encoder takes one call at a time, and two encoders would only share the same cores.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode-query")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode-query")

    async def encode_text(self, encoder: str, text: str) -> Float32:
        """See `QueryEncoder.encode_text`."""

        async def _passthrough() -> str:
            return text

        return await self._vector(encoder, text.encode(), _passthrough)

    async def encode_image(self, data: bytes, region: ImageRegion | None) -> Float32:
        """See `QueryEncoder.encode_image`."""

        async def _pixels() -> UInt8:
            return await asyncio.get_running_loop().run_in_executor(self._decoding, self._decode_image, data, region)

        return await self._vector(JOINT_IMAGE, data, _pixels, of_part="" if region is None else str(region))

    @property
    def reranks_by(self) -> str | None:
        """See `penstock.query.rerank.PassageReader.reranks_by`."""
        return None if self._scorer is None else self._scorer.name

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        """See `penstock.query.rerank.PassageReader.tokens_to_read`."""
        return [0] * len(passages) if self._scorer is None else self._scorer.tokens_to_read(passages)

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        """See `penstock.query.rerank.PassageReader.score_passages`."""
        if self._scorer is None:
            raise PermanentError("the profile has no model that reranks")
        loop = asyncio.get_running_loop()
        scored = await loop.run_in_executor(self._encoding, self._scorer.score, question, passages)
        return scored.scores

    async def check(self) -> None:
        """Encodes a word without the cache, and raises whatever a broken encoder raises."""
        await self._encoded(PASSAGE_TEXT, "check", "penstock")

    def close(self) -> None:
        """Drops the queue. A running batch ends by itself."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._encoding.shutdown(wait=False, cancel_futures=True)

    async def _vector(
        self, encoder: str, content: bytes, prepare: Callable[[], Awaitable[str | UInt8]], *, of_part: str = ""
    ) -> Float32:
        """Returns the vector from the cache, from a task that is computing it already, or from a new task.

        Args:
            encoder: part of the key: one model may encode queries and passages differently.
            content: the rest of the key, with `of_part`.
            prepare: returns the item to encode.
            of_part: says which part of the content that is; empty: all of it.
        """
        key = hashlib.blake2b(content, digest_size=16, person=encoder.encode()[:16]).hexdigest() + of_part
        known = self.cache.get((encoder, key))
        if known is not None:
            return known
        task = self._computing.get((encoder, key))
        if task is None:
            if len(self._computing) >= MAX_WAITING:
                raise OverloadedError(f"{MAX_WAITING} queries wait to be encoded", retry_after_s=RETRY_AFTER_S)
            task = asyncio.create_task(self._compute(encoder, key, prepare))
            self._computing[encoder, key] = task
            task.add_done_callback(lambda done: self._forget(encoder, key, done))
        # Shielded: a request that gives up must not cancel the vector that other requests wait for.
        return await asyncio.shield(task)

    async def _compute(self, encoder: str, key: str, prepare: Callable[[], Awaitable[str | UInt8]]) -> Float32:
        vector = await self._encoded(encoder, key, await prepare())
        self.cache.store((encoder, key), vector)
        return vector

    async def _encoded(self, encoder: str, key: str, item: str | UInt8) -> Float32:
        """Queues the item, and starts the encoder if it is idle."""
        waiting = _QueuedItem(encoder, key, item, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._drain_queue())
        return await waiting.done

    def _forget(self, encoder: str, key: str, task: asyncio.Task[Float32]) -> None:
        del self._computing[encoder, key]
        if not task.cancelled():
            task.exception()  # retrieved also where every request that waited for it has given up

    async def _drain_queue(self) -> None:
        """Encodes until the queue is empty. A batch has the items with the same encoder as the first in the queue."""
        loop = asyncio.get_running_loop()
        while self._queue:
            encoder = self._queue[0].encoder
            batch = [waiting for waiting in self._queue if waiting.encoder == encoder][:MAX_BATCH]
            taken = {id(waiting) for waiting in batch}
            self._queue = [waiting for waiting in self._queue if id(waiting) not in taken]
            try:
                encoded = await loop.run_in_executor(
                    self._encoding, self._encoders[role_of(encoder)].encode, _as_input(encoder, batch)
                )
            except Exception as exc:  # whatever its type, it belongs to the requests that wait for this batch
                for waiting in batch:
                    waiting.fail(exc)
            else:
                _resolve(batch, encoded)


def _as_input(encoder: str, batch: Sequence[_QueuedItem]) -> EncoderInput:
    keys = tuple(waiting.key for waiting in batch)
    texts = tuple(waiting.item for waiting in batch if isinstance(waiting.item, str))
    if texts:
        return EncoderInput(encoder, keys, texts=texts)
    return EncoderInput(encoder, keys, pixels=np.stack([np.asarray(waiting.item) for waiting in batch]))


def _resolve(batch: Sequence[_QueuedItem], encoded: Encoded) -> None:
    """Gives each request its row, or the failure of its row."""
    failed = dict(encoded.failed)
    for row, waiting in enumerate(batch):
        if row in failed:
            waiting.fail(PermanentError(f"{waiting.encoder} cannot encode this query: {failed[row]}"))
        else:
            waiting.succeed(encoded.vectors[row].copy())  # a view would keep the whole batch in the cache
