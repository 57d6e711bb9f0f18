"""Bytes that are read where they are looked at."""

from __future__ import annotations

import random

import pytest

from penstock.media.known_good import sample
from penstock.media.sniff import sniff
from penstock.records import Modality
from penstock.serve.use_cases.partial_bytes import BLOCK_BYTES, PartialBytes, TooManyReadsError

DATA = random.Random(5).randbytes(10 * BLOCK_BYTES + 17)


class Reads:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.spans: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bytes:
        self.spans.append((start, end))
        return self.data[start:end]


@pytest.mark.parametrize(
    "span",
    [
        slice(0, 8),
        slice(None, 3 * BLOCK_BYTES),
        slice(-18, None),
        slice(BLOCK_BYTES - 1, BLOCK_BYTES + 1),
        slice(5, 5),
        slice(9, 2),
        slice(len(DATA), len(DATA) + 9),
        slice(3, 90, 7),
    ],
)
def test_slices_are_those_of_the_bytes(span: slice) -> None:
    assert PartialBytes(len(DATA), Reads(DATA), max_blocks=20)[span] == DATA[span]


def test_a_block_is_read_once_and_no_more_than_allowed() -> None:
    reads = Reads(DATA)
    partial = PartialBytes(len(DATA), reads, max_blocks=2)
    assert partial[10:20] + partial[30:40] == DATA[10:20] + DATA[30:40]
    assert partial[-1:] == DATA[-1:]
    assert reads.spans == [(0, BLOCK_BYTES), (10 * BLOCK_BYTES, len(DATA))]
    for beyond in (slice(BLOCK_BYTES, BLOCK_BYTES + 1), slice(None)):
        with pytest.raises(TooManyReadsError):
            partial[beyond]


def test_the_type_of_a_film_is_read_from_its_ends() -> None:
    film = sample(Modality.VIDEO)
    padded = film + (100 * BLOCK_BYTES + 8).to_bytes(4, "big") + b"free" + bytes(100 * BLOCK_BYTES)
    reads = Reads(padded)
    assert sniff(PartialBytes(len(padded), reads, max_blocks=8), declared=None).mime == "video/mp4"
    assert len(reads.spans) <= 3
