from __future__ import annotations

import tracemalloc

import pytest
from kafka import codec, errors
from kafka.record import MemoryRecords, MemoryRecordsBuilder

from penstock.broker import unpacking

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def records(compression: str, values: list[bytes]) -> MemoryRecords:
    built = MemoryRecordsBuilder(magic=2, compression_type=CODECS[compression], batch_size=1 << 30)
    for value in values:
        built.append(timestamp=1, key=None, value=value, headers=[])
    built.close()
    return MemoryRecords(built.buffer())


@pytest.mark.parametrize("compression", CODECS)
def test_a_batch_is_unpacked_whole(compression: str) -> None:
    unpacking.bound_unpacking()
    values = [b"heron " * 500_000, b"", b"x"]
    batch = records(compression, values).next_batch()
    assert batch.validate_crc()
    assert [record.value for record in batch] == values


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
def test_a_decompression_bomb_is_refused_before_it_takes_the_memory(
    compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 1 << 20)
    unpacking.bound_unpacking()
    batch = records(compression, [b"\0" * (64 << 20)]).next_batch()
    tracemalloc.start()
    with pytest.raises(errors.CorruptRecordError, match="unpacks to more than 1,048,576 bytes"):
        list(batch)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
def test_data_that_is_not_compressed_is_an_error(compression: str) -> None:
    assert getattr(codec, f"has_{compression}")()
    with pytest.raises(Exception):  # noqa: B017  # each codec has its own
        getattr(unpacking, f"_{compression}")(b"no such thing at all")
