"""Tests which messages the samples of WebDataset shards become, and that a shard continues behind any of them."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from penstock.broker.base import Message
from penstock.config import MIB, Settings
from penstock.produce import shards
from penstock.produce.items import ProduceOptions
from penstock.produce.shards import ShardSource
from penstock.records import Event, Inline
from tests.produce.conftest import check_continues, messages, reasons


def shard(path: Path, files: Mapping[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path.as_uri()


def vector(*values: float) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values, np.float16))
    return out.getvalue()


@pytest.mark.parametrize(("name", "mode"), [("00.tar", "w"), ("00.tar.gz", "w:gz")])
def test_a_sample_is_an_event_with_its_caption_and_vector(  # noqa: PLR0917
    name: str, mode: str, tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event], png: bytes
) -> None:
    files = {
        "0001.jpg": png,
        "0001.txt": b" A red dot. \n",
        "0001.json": json.dumps({"url": "https://x/a.png", "width": 4, "secret": "no"}).encode(),
        "0001.npy": vector(0.5, 1.0),
        "0002.txt": b"Only words.",
        "dir/0003.png": png,
        "dir/0003.mask.png": png,
    }
    options = ProduceOptions(attribute_columns=("width",), vector_encoder="clip/1/2")
    items = list(ShardSource(shard(tmp_path / name, files, mode), settings, options).items(None))
    sent = messages(items)
    assert [message.key for message in sent] == [b"00/0001", b"00/0002", b"00/dir/0003.png", b"00/dir/0003.mask.png"]
    first = event_of(sent[0])
    assert (first.title, first.payload, sent[0].topic) == ("A red dot.", Inline(png), "media.image")
    assert json.loads(first.attributes_json) == {"width": 4}
    assert np.frombuffer(first.vectors[0].data, "<f4").tolist() == [0.5, 1.0]
    assert (sent[1].topic, sent[1].value) == ("media.text", b"Only words.")


def test_a_sample_that_cannot_be_sent_is_refused_alone(tmp_path: Path, settings: Settings, png: bytes) -> None:
    files = {
        "1.png": bytes(2 * MIB),
        "2.json": b"{}",
        "3.png": png,
        "3.json": b"{",
        "4.png": png,
        "5.xyz": b"\x00\x01\x02",
    }
    items = list(ShardSource(shard(tmp_path / "a.tar", files), settings, ProduceOptions()).items(None))
    refused = reasons(items)
    expected = ("too large", "no media", "JSON", "no decoder")
    assert len(refused) == len(expected)
    assert all(words in reason for words, reason in zip(expected, refused, strict=True)), refused
    assert len(messages([item for item in items if item.label.endswith("4.png")])) == 1


def npy(shape: str, descr: str = "'<f4'", data: bytes = b"") -> bytes:
    """Returns a .npy of version 1.0 whose header says anything."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(40), "not one of NumPy"),
        (b"", "not one of NumPy"),
        (npy("(1099511627776,)"), "shape (1099511627776,)"),
        (npy("(1099511627776, 1099511627776)"), "shape (1099511627776"),
        (npy("(0,)"), "shape (0,)"),
        (npy("(2,)"), "not one of NumPy"),
        (npy("(2,)", "'|O'", bytes(16)), "type object"),
        (npy("(1,)", "[('x', '<f4')]", bytes(4)), "not 1 to 8,192 numbers"),
        (npy("('a',)"), "not one of NumPy"),
    ],
)
def test_a_vector_that_is_none_is_refused_with_its_sample_alone(
    data: bytes, words: str, tmp_path: Path, settings: Settings, png: bytes
) -> None:
    files = {"1.png": png, "1.npy": data, "2.png": png, "2.npy": vector(1.0)}
    options = ProduceOptions(vector_encoder="clip/1/2")
    items = list(ShardSource(shard(tmp_path / "a.tar", files), settings, options).items(None))
    (reason,) = reasons(items)
    assert words in reason
    assert [message.key for message in messages(items[1:])] == [b"a/2"]


@pytest.mark.parametrize(("limit", "allowed"), [("_MAX_FILES", 3), ("_MAX_BYTES", 3_000)])
def test_a_sample_of_too_many_files_or_bytes_is_refused_alone(  # noqa: PLR0917
    limit: str, allowed: int, tmp_path: Path, settings: Settings, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, limit, allowed)
    many = {f"2.{number}.txt": bytes(1_000) for number in range(30)}
    files = {"1.png": png, "1.txt": b"A dot", "1.json": b"{}", **many, "3.png": png}
    items = list(ShardSource(shard(tmp_path / "a.tar", files), settings, ProduceOptions()).items(None))
    (reason,) = reasons(items)
    assert f"more than {shards._MAX_FILES} files or {shards._MAX_BYTES:,} bytes" in reason
    assert [item.label.rpartition(":")[2] for item in items] == ["1.png", "2", "3.png"]
    check_continues(lambda: ShardSource((tmp_path / "a.tar").as_uri(), settings, ProduceOptions()))


def test_the_members_of_a_shard_are_not_kept(tmp_path: Path, settings: Settings) -> None:
    url = shard(tmp_path / "a.tar", {f"{number}.txt": b"x" for number in range(1_500)})
    items = ShardSource(url, settings, ProduceOptions()).items(None)
    for _ in zip(range(300), items, strict=False):
        pass
    early = live_members()
    for _ in zip(range(1_000), items, strict=False):
        pass
    assert live_members() <= early < 100


def live_members() -> int:
    """Returns how many members of archives are in memory."""
    gc.collect()
    return sum(type(thing) is tarfile.TarInfo for thing in gc.get_objects())


def test_shards_continue_behind_any_sample(tmp_path: Path, settings: Settings, png: bytes) -> None:
    for number in range(3):
        kinds = (("png", png), ("txt", b"x"))
        files = {f"{number}{sample}.{ending}": data for sample in range(3) for ending, data in kinds}
        shard(tmp_path / f"{number}.tar", {**files, f"{number}9.a.png": png, f"{number}9.b.png": png})
    check_continues(lambda: ShardSource(f"file://{tmp_path}/*.tar", settings, ProduceOptions()))


def test_a_shard_that_breaks_off_ends_with_a_refusal(tmp_path: Path, settings: Settings, png: bytes) -> None:
    url = shard(tmp_path / "a.tar", {f"{number}.png": png for number in range(20)})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:5_000])
    items = list(ShardSource(url, settings, ProduceOptions()).items(None))
    assert "cannot be read as a shard" in reasons(items)[-1]
    assert len(items) > 1
    (tmp_path / "b.tar").write_bytes(b"no tar at all")
    assert len(reasons(list(ShardSource((tmp_path / "b.tar").as_uri(), settings, ProduceOptions()).items(None)))) == 1
