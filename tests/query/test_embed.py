"""Embedding of queries: batches grow with the load, without a timer, and known vectors are not computed again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.load import load_encoders
from penstock.encoders.profiles import load_profile
from penstock.errors import OverloadedError, PermanentError, QueryError, UnavailableError
from penstock.query import embed as module
from penstock.query.embed import BatchingQueryEncoder
from penstock.records import Encoded, EncoderInput, ImageRegion, UInt8


class HeldEncoder:
    """An encoder that can be held inside `encode`, and remembers its batches."""

    name = "passage.text"
    space = Space("held", 2)
    fingerprint = Fingerprint("held", "0" * 16, "0" * 16)

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def encode(self, batch: EncoderInput) -> Encoded:
        self.entered.set()
        assert self.gate.wait(10)
        self.threads.add(threading.get_ident())
        self.batches.append(batch.texts)
        if self.error:
            raise self.error
        vectors = np.array([[len(text), 1] for text in batch.texts], dtype=np.float32)
        failed = tuple((row, "unspeakable") for row, text in enumerate(batch.texts) if text == "poison")
        return Encoded(batch.encoder, vectors, failed)


def no_image(_: bytes, region: ImageRegion | None) -> UInt8:
    raise QueryError("not an image", status=422, field="/image")


def run(
    held: HeldEncoder, scenario: Callable[[BatchingQueryEncoder], Awaitable[None]], *, cache_size: int = 100
) -> None:
    async def main() -> None:
        encoder = BatchingQueryEncoder({"passage.text": held}, decode_image=no_image, cache_size=cache_size)
        try:
            await asyncio.wait_for(scenario(encoder), 20)
        finally:
            held.gate.set()
            encoder.close()

    asyncio.run(main())


async def entered(held: HeldEncoder) -> None:
    await asyncio.get_running_loop().run_in_executor(None, held.entered.wait)


def test_an_idle_encoder_takes_the_first_query_immediately_and_the_next_ones_together() -> None:
    held = HeldEncoder()
    held.gate.clear()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        first = asyncio.create_task(encoder.encode_text("passage.text", "a"))
        await entered(held)
        others = [asyncio.create_task(encoder.encode_text("passage.text", text)) for text in ("bb", "ccc", "dddd")]
        await asyncio.sleep(0)
        held.gate.set()
        assert (await first)[0] == 1
        assert [vector[0] for vector in await asyncio.gather(*others)] == [2, 3, 4]

    run(held, scenario)
    assert held.batches == [("a",), ("bb", "ccc", "dddd")]
    assert len(held.threads) == 1


def test_the_same_query_is_computed_once_whether_it_comes_later_or_at_the_same_time() -> None:
    held = HeldEncoder()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        await asyncio.gather(*(encoder.encode_text("passage.text", "a") for _ in range(5)))
        await encoder.encode_text("passage.text", "a")
        assert (encoder.cache.hits, encoder.cache.misses) == (1, 5)

    run(held, scenario)
    assert held.batches == [("a",)]


def test_queries_and_passages_do_not_share_vectors() -> None:
    held = HeldEncoder()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        await encoder.encode_text("passage.text", "a")
        await encoder.encode_text("passage.query", "a")

    run(held, scenario)
    assert held.batches == [("a",), ("a",)]


@pytest.mark.parametrize(("cache_size", "computed"), [(0, 4), (1, 4), (2, 2)])
def test_the_cache_keeps_the_latest_vectors_up_to_its_size(cache_size: int, computed: int) -> None:
    held = HeldEncoder()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        for text in ("a", "b", "a", "b"):
            await encoder.encode_text("passage.text", text)

    run(held, scenario, cache_size=cache_size)
    assert len(held.batches) == computed


def test_a_query_that_fails_does_not_fail_its_batch() -> None:
    held = HeldEncoder()
    held.gate.clear()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        texts = ("a", "poison", "bb")
        tasks = [asyncio.create_task(encoder.encode_text("passage.text", text)) for text in texts]
        await entered(held)
        held.gate.set()
        good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, PermanentError)
        assert "unspeakable" in str(bad)
        assert not isinstance(good, BaseException)
        assert not isinstance(other, BaseException)

    run(held, scenario)


def test_a_lost_device_fails_the_batch_and_the_next_query_tries_again() -> None:
    held = HeldEncoder()
    held.error = UnavailableError("the GPU is gone")

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        with pytest.raises(UnavailableError):
            await encoder.encode_text("passage.text", "a")
        held.error = None
        assert (await encoder.encode_text("passage.text", "a"))[0] == 1

    run(held, scenario)


def test_a_request_that_gives_up_does_not_cancel_the_vector_of_another() -> None:
    held = HeldEncoder()
    held.gate.clear()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        first, second = (asyncio.create_task(encoder.encode_text("passage.text", "a")) for _ in range(2))
        await entered(held)
        first.cancel()
        held.gate.set()
        assert (await second)[0] == 1

    run(held, scenario)


def test_too_many_waiting_queries_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    held = HeldEncoder()
    held.gate.clear()

    async def scenario(encoder: BatchingQueryEncoder) -> None:
        waiting = [asyncio.create_task(encoder.encode_text("passage.text", text)) for text in ("a", "bb")]
        await entered(held)
        with pytest.raises(OverloadedError):
            await encoder.encode_text("passage.text", "ccc")
        held.gate.set()
        await asyncio.gather(*waiting)
        await encoder.encode_text("passage.text", "ccc")

    run(held, scenario)


def test_an_invalid_image_is_the_clients_fault() -> None:
    async def scenario(encoder: BatchingQueryEncoder) -> None:
        with pytest.raises(QueryError):
            await encoder.encode_image(b"GIF89a, or so it says", None)

    run(HeldEncoder(), scenario)


def test_the_encoders_of_a_profile_serve_text_and_images() -> None:
    profile = load_profile("null:16")
    pixels = np.zeros((profile.image.size_px, profile.image.size_px, 3), np.uint8)

    async def main() -> list[Any]:
        encoder = BatchingQueryEncoder(load_encoders(profile), decode_image=lambda data, region: pixels, cache_size=10)
        try:
            return [await encoder.encode_text("joint.text", "cat"), await encoder.encode_image(b"an image", None)]
        finally:
            encoder.close()

    for vector in asyncio.run(main()):
        assert (vector.shape, vector.dtype) == ((16,), np.float32)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_regions_of_one_image_have_vectors_of_their_own() -> None:
    profile = load_profile("null:16")
    size = profile.image.size_px
    decoded: list[ImageRegion | None] = []

    def decode(data: bytes, region: ImageRegion | None) -> UInt8:
        decoded.append(region)
        return np.full((size, size, 3), 0 if region is None else int(region.x * 100), np.uint8)

    async def main() -> list[Any]:
        encoder = BatchingQueryEncoder(load_encoders(profile), decode_image=decode, cache_size=10)
        try:
            regions = [
                None,
                ImageRegion(0.1, 0, 0.5, 0.5),
                ImageRegion(0.2, 0, 0.5, 0.5),
                ImageRegion(0.1, 0, 0.5, 0.5),
            ]
            return [await encoder.encode_image(b"an image", region) for region in regions]
        finally:
            encoder.close()

    whole, first, second, again = asyncio.run(main())
    assert len(decoded) == 3
    assert np.array_equal(first, again)
    assert len({vector.tobytes() for vector in (whole, first, second)}) == 3
