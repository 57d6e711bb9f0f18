"""Reads bytes of stored media where they are looked at, so that large ones are not read whole."""

from __future__ import annotations

from collections.abc import Callable

BLOCK_BYTES = 65_536  # the head that decides on most types is one block


class TooManyReadsError(Exception):
    """The bytes that are looked at lie in too many blocks."""


class PartialBytes:
    """Bytes of a given length, of which blocks are read at their first use and kept.

    Args:
        size: number of the bytes.
        read: returns those from a position to before another one.
        max_blocks: blocks that may be read. The lists in damaged or crafted media can refer to any number.

    `__getitem__` raises `TooManyReadsError` beyond that, and what `read` raises.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes], *, max_blocks: int) -> None:
        self._size = size
        self._read = read
        self._max_blocks = max_blocks
        self._blocks: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, step = span.indices(self._size)
        first, last = start // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        if end <= start:
            return b""
        if last - first > self._max_blocks:
            raise TooManyReadsError
        joined = b"".join(self._block(number) for number in range(first, last))
        offset = first * BLOCK_BYTES
        return joined[start - offset : end - offset][::step]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) >= self._max_blocks:
                raise TooManyReadsError
            start = number * BLOCK_BYTES
            self._blocks[number] = self._read(start, min(start + BLOCK_BYTES, self._size))
        return self._blocks[number]
