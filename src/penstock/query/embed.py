"""Step 3, encode: a query becomes a vector, in one batch with the queries that came at the same time.

Batching adds no wait: when the encoder is idle the first query goes at once, and what arrives while it is busy goes
together as the next batch. So batches grow with the load by themselves, and no timer has to be tuned.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from penstock.encoders.base import Encoder
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, role_of
from penstock.errors import OverloadedError, PermanentError
from penstock.observability import metrics
from penstock.records import Encoded, EncoderInput, Float32, UInt8

# A batch of 32 short texts takes a sentence encoder little longer than one: beyond, waiting in turn is fairer.
MAX_BATCH = 32
# Some ten batches: at a hundred milliseconds each, more than a deadline's worth.
MAX_WAITING = 256
RETRY_AFTER_S = 1.0


class QueryEncoder(Protocol):
    """Makes query vectors. Safe to use by many tasks of one event loop."""

    async def encode_text(self, encoder: str, text: str) -> Float32:
        """float32[dim], L2-normalised.

        Args:
            encoder: `EncoderInput.encoder`, as `Profile.query_encoder` has it.
            text: a question.

        Raises:
            OverloadedError: too many queries wait.
            PermanentError: the encoder fails on this text, every time.
            TransientError: the encoder's device is gone.
        """

    async def encode_image(self, data: bytes) -> Float32:
        """float32[dim], L2-normalised, of an encoded picture, by `joint.image`.

        Raises:
            QueryError: it is no picture, or too large a one.
            OverloadedError, PermanentError, TransientError: as above.
        """


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One item in line for its encoder."""

    encoder: str
    key: str
    item: str | UInt8
    done: asyncio.Future[Float32]

    def succeed(self, vector: Float32) -> None:
        if not self.done.cancelled():  # it is when whoever waited has given up
            self.done.set_result(vector)

    def fail(self, error: Exception) -> None:
        if not self.done.cancelled():
            self.done.set_exception(error)


class BatchingQueryEncoder:
    """Runs the encoders of a profile in one thread of this process, batched across requests and cached.

    Args:
        encoders: by role. Used by this object alone from now on.
        decode_image: encoded picture → uint8[size, size, 3] of the image encoder's size; raises `QueryError`.
        cache: vectors kept; the least recently used go first.
    """

    def __init__(self, encoders: Mapping[str, Encoder], *, decode_image: Callable[[bytes], UInt8], cache: int) -> None:
        self._encoders = dict(encoders)
        self._decode_image = decode_image
        self.cache = VectorCache(cache)
        self._computing: dict[tuple[str, str], asyncio.Task[Float32]] = {}
        self._line: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        # One thread: an encoder may be called from one at a time, and two at once would only share the same cores.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode-query")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode-query")

    async def encode_text(self, encoder: str, text: str) -> Float32:
        async def as_it_is() -> str:
            return text

        return await self._vector(encoder, text.encode(), as_it_is)

    async def encode_image(self, data: bytes) -> Float32:
        async def pixels() -> UInt8:
            return await asyncio.get_running_loop().run_in_executor(self._decoding, self._decode_image, data)

        return await self._vector(JOINT_IMAGE, data, pixels)

    async def check(self) -> None:
        """Encodes a word, past the cache. Raises what an encoder that does not work raises."""
        await self._encoded(PASSAGE_TEXT, "check", "penstock")

    def close(self) -> None:
        """Drops what waits; a batch under way ends by itself."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._encoding.shutdown(wait=False, cancel_futures=True)

    async def _vector(self, encoder: str, content: bytes, prepare: Callable[[], Awaitable[str | UInt8]]) -> Float32:
        """From the cache, from a task that is at it already, or from a new one."""
        # By encoder too: questions and passages may be encoded differently by one and the same model.
        key = hashlib.blake2b(content, digest_size=16, person=encoder.encode()[:16]).hexdigest()
        known = self.cache.get(encoder, key)
        if known is not None:
            return known
        task = self._computing.get((encoder, key))
        if task is None:
            if len(self._computing) >= MAX_WAITING:
                raise OverloadedError(f"{MAX_WAITING} queries wait to be encoded", retry_after_s=RETRY_AFTER_S)
            task = asyncio.create_task(self._compute(encoder, key, prepare))
            self._computing[encoder, key] = task
            task.add_done_callback(lambda done: self._forget(encoder, key, done))
        # Shielded: a request that gives up must not take the vector away from the others that wait for it.
        return await asyncio.shield(task)

    async def _compute(self, encoder: str, key: str, prepare: Callable[[], Awaitable[str | UInt8]]) -> Float32:
        vector = await self._encoded(encoder, key, await prepare())
        self.cache.put(encoder, key, vector)
        return vector

    async def _encoded(self, encoder: str, key: str, item: str | UInt8) -> Float32:
        """Stands in line for the encoder, and sets it to work if it is idle."""
        waiting = _Waiting(encoder, key, item, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work_off_the_line())
        return await waiting.done

    def _forget(self, encoder: str, key: str, task: asyncio.Task[Float32]) -> None:
        del self._computing[encoder, key]
        if not task.cancelled():
            task.exception()  # seen, also where every request that waited for it has given up

    async def _work_off_the_line(self) -> None:
        """Encodes until nobody waits: each time all that wait for the same encoder as the first in line."""
        loop = asyncio.get_running_loop()
        while self._line:
            encoder = self._line[0].encoder
            batch = [waiting for waiting in self._line if waiting.encoder == encoder][:MAX_BATCH]
            taken = {id(waiting) for waiting in batch}
            self._line = [waiting for waiting in self._line if id(waiting) not in taken]
            try:
                encoded = await loop.run_in_executor(
                    self._encoding, self._encoders[role_of(encoder)].encode, _as_input(encoder, batch)
                )
            except Exception as exc:  # whatever it is, it belongs to those who wait for this batch
                for waiting in batch:
                    waiting.fail(exc)
            else:
                _hand_out(batch, encoded)


class VectorCache:
    """The vectors of the latest queries. Belongs to one event loop.

    Attributes:
        hits, misses: how often a vector was asked for that was here, or was not.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[tuple[str, str], Float32] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, encoder: str, key: str) -> Float32 | None:
        vector = self._vectors.get((encoder, key))
        metrics.CACHE_REQUESTS.labels("query", "miss" if vector is None else "hit").inc()
        if vector is None:
            self.misses += 1
            return None
        self.hits += 1
        self._vectors.move_to_end((encoder, key))
        return vector

    def put(self, encoder: str, key: str, vector: Float32) -> None:
        self._vectors[encoder, key] = vector
        if len(self._vectors) > self._size:
            self._vectors.popitem(last=False)


def _as_input(encoder: str, batch: Sequence[_Waiting]) -> EncoderInput:
    keys = tuple(waiting.key for waiting in batch)
    texts = tuple(waiting.item for waiting in batch if isinstance(waiting.item, str))
    if texts:
        return EncoderInput(encoder, keys, texts=texts)
    return EncoderInput(encoder, keys, pixels=np.stack([np.asarray(waiting.item) for waiting in batch]))


def _hand_out(batch: Sequence[_Waiting], encoded: Encoded) -> None:
    """Gives everyone their row, or what went wrong with it."""
    failed = dict(encoded.failed)
    for row, waiting in enumerate(batch):
        if row in failed:
            waiting.fail(PermanentError(f"{waiting.encoder} cannot encode this query: {failed[row]}"))
        else:
            waiting.succeed(encoded.vectors[row].copy())  # a view would keep the whole batch in the cache
