"""Bounds the size to which a compressed batch unpacks.

16 MiB of gzip can hold 16 GiB of zeros, and zstd packs denser still, but kafka-python 3.0 unpacks a batch in one piece,
however large. Snappy is left as it is: it packs to a twentieth at best.

Private parts of kafka-python that are used here: `gzip_decode`, `lz4_decode` and `zstd_decode` in
`kafka.record.default_records`, the first two also in `kafka.record.legacy_records` (all replaced). pyproject.toml pins
the minor version for which this was written; tests/broker/test_unpacking.py fails without it.
"""

from __future__ import annotations

import gzip
import io
from typing import Any

import lz4.frame
import zstandard
from kafka import errors
from kafka.record import default_records, legacy_records

# Twice the largest media by default. A producer fills a batch to its batch.size, a few MiB, or with one record.
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024


def bound_unpacking() -> None:
    """Makes kafka-python raise `CorruptRecordError` for a batch that unpacks to more than the limit. Idempotent."""
    default_records.gzip_decode = legacy_records.gzip_decode = _gzip
    default_records.lz4_decode = legacy_records.lz4_decode = _lz4
    default_records.zstd_decode = _zstd


def _gzip(packed: Any) -> bytes:
    return _read_bounded(gzip.GzipFile(fileobj=io.BytesIO(packed)))


def _lz4(packed: Any) -> bytes:
    return _read_bounded(lz4.frame.LZ4FrameFile(io.BytesIO(packed)))


def _zstd(packed: Any) -> bytes:
    return _read_bounded(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True))


def _read_bounded(reader: Any) -> bytes:
    unpacked = io.BytesIO()  # whose value is not another copy
    while piece := reader.read(_PIECE_BYTES):
        unpacked.write(piece)
        if unpacked.tell() > MAX_UNPACKED_BYTES:
            raise errors.CorruptRecordError(f"its batch unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
    return unpacked.getvalue()
