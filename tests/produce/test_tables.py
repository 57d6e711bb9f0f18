"""Tests which messages the rows of Parquet, CSV and JSONL become, and that each continues behind any row."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from fsspec.spec import AbstractBufferedFile
from pyarrow import parquet

from penstock.broker.base import Message
from penstock.cli.sources import LocalSource
from penstock.config import Settings
from penstock.errors import UnavailableError, UsageError
from penstock.produce import lines, tables
from penstock.produce.base import item_of
from penstock.produce.file_systems import FileSystem
from penstock.produce.items import ProduceOptions
from penstock.produce.lines import JsonLinesSource
from penstock.produce.open_source import open_source
from penstock.produce.tables import CsvSource, ParquetSource
from penstock.records import ClaimCheck, Event, Inline
from tests.produce.conftest import check_continues, messages, reasons

ENCODER = "clip/0123/4567"


def write(path: Path, rows: list[dict[str, Any]], *, group: int = 100) -> str:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path.as_uri()


def test_rows_are_events_by_their_columns(
    tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event], png: bytes
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"text": "The heron.", "key": "n-1", "title": "Heron", "acl": ["hr"], "time": moment, "river": "Isar"},
        {"data": png, "key": None, "price": Decimal("2.50"), "attributes": '{"a": [1, 2]}'},
    ]
    rows = [dict.fromkeys(rows[0] | rows[1]) | row for row in rows]
    url = write(tmp_path / "t.parquet", rows)
    options = ProduceOptions(tenant="acme", attribute_columns=("river", "price"))
    text, image = messages(list(ParquetSource(url, settings, options).items(None)))
    first, second = event_of(text), event_of(image)
    assert (first.asset.key, first.title, first.acl, first.payload) == ("n-1", "Heron", ("hr",), Inline(b"The heron."))
    assert first.event_time_ms == round(moment.timestamp() * 1000)
    assert json.loads(first.attributes_json) == {"river": "Isar"}
    assert (second.asset.key, second.payload, image.topic) == ("t.parquet/2", Inline(png), "media.image")
    assert json.loads(second.attributes_json) == {"a": [1, 2], "price": 2.5}


def test_columns_of_other_names_and_vectors_are_named_by_options(
    tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event], png: bytes
) -> None:
    rows = [{"image": {"bytes": png, "path": "a.png"}, "id": 7, "caption": "A dot", "emb": [0.5, 1.0]}]
    url = write(tmp_path / "hf.parquet", rows)
    columns = {"data": "image", "title": "caption", "vector": "emb"}
    options = ProduceOptions(columns=columns, vector_encoder=ENCODER)
    (message,) = messages(list(ParquetSource(url, settings, options).items(None)))
    parsed = event_of(message)
    assert (parsed.asset.key, parsed.title, parsed.payload) == ("7", "A dot", Inline(png))
    (vector,) = parsed.vectors
    assert vector.encoder == ENCODER
    assert np.frombuffer(vector.data, "<f4").tolist() == [0.5, 1.0]


def test_addresses_are_claim_checks(tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event]) -> None:
    url = write(tmp_path / "u.parquet", [{"uri": "s3://b/a.png", "modality": "image"}, {"uri": "s3://b/b.png"}])
    items = list(ParquetSource(url, settings, ProduceOptions()).items(None))
    assert len(reasons(items)) == 1
    assert "no modality" in reasons(items)[0]
    assert event_of(messages(items[:1])[0]).payload == ClaimCheck("s3://b/a.png")


def test_parquet_continues_behind_any_row_of_any_file(tmp_path: Path, settings: Settings) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [{"text": f"{number} {row}"} for row in range(5)], group=2)
    url = f"file://{tmp_path}/*.parquet"
    check_continues(lambda: ParquetSource(url, settings, ProduceOptions()))
    assert ParquetSource(url, settings, ProduceOptions()).total() == 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ProduceOptions(columns={"text": "absent"}), "no column absent"),
        (ProduceOptions(columns={"nothing": "body"}), "no field nothing"),
        (ProduceOptions(attribute_columns=("absent",)), "no column absent"),
        (ProduceOptions(), "no column text, uri or data"),
    ],
)
def test_a_table_without_the_named_columns_is_refused(
    options: ProduceOptions, words: str, tmp_path: Path, settings: Settings
) -> None:
    url = write(tmp_path / "t.parquet", [{"body": "x"}])
    with pytest.raises(UsageError, match=words):
        list(ParquetSource(url, settings, options).items(None))


def test_what_is_no_parquet_is_said(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not at all")
    with pytest.raises(UsageError, match="not Parquet"):
        list(ParquetSource((tmp_path / "t.parquet").as_uri(), settings, ProduceOptions()).items(None))


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        ("attributes", ["[1]", '{"a": 1}'], "attributes that are a list"),
        ("attributes", ["5", None], "attributes that are a int"),
        ("acl", [5, None], "acl that is a int"),
        ("acl", [[1, 2], None], "acl has '1'"),
        ("river", [timedelta(hours=1), None], "cannot be sent: TypeError"),
        ("river", [pyarrow.scalar(2**62, pyarrow.timestamp("us")), None], "cannot be sent"),
        ("time", [pyarrow.scalar(2**62, pyarrow.timestamp("us")), None], "cannot be sent"),
    ],
)
def test_a_cell_of_a_wrong_type_is_refused_with_its_row_alone(
    column: str, cells: list[Any], words: str, tmp_path: Path, settings: Settings
) -> None:
    kind = cells[0].type if isinstance(cells[0], pyarrow.Scalar) else None
    table = pyarrow.table({"text": ["first", "second"], column: pyarrow.array(cells, kind)})
    parquet.write_table(table, tmp_path / "t.parquet")
    options = ProduceOptions(attribute_columns=("river",) if column == "river" else ())
    items = list(ParquetSource((tmp_path / "t.parquet").as_uri(), settings, options).items(None))
    assert [words in reason for reason in reasons(items)] == [True], reasons(items)
    assert [message.value for message in messages(items[1:])] == [b"second"]
    assert [item.mark.cursor["row"] for item in items if item.mark is not None] == [1, 2]


def test_a_server_that_does_not_answer_refuses_no_item() -> None:
    def away() -> Message:
        raise UnavailableError("no server answers.")

    with pytest.raises(UnavailableError):
        item_of("row 1", away, None)


def test_attributes_of_csv_that_are_no_object_are_refused_alone(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "t.csv").write_text("text,attributes,acl\na,[1],\nb,5,\nc,{},[1]\nd,,hr\n")
    items = list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None))
    assert len(reasons(items)) == 3
    assert [message.value for message in messages(items[3:])] == [b"d"]


def test_csv_rows_are_events(tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event]) -> None:
    table = 'id,text,title,river\n1,"The heron\nin two lines",Heron,Isar\n2,,No text,Inn\n3,"x",,\n4,a\n'
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(table.encode()))
    (tmp_path / "t.tsv").write_text("id\ttext\n1\tThe heron\n")
    options = ProduceOptions(attribute_columns=("river",))
    for name in ("t.csv", "t.csv.gz"):
        items = list(CsvSource((tmp_path / name).as_uri(), settings, options).items(None))
        assert [item.label.rpartition(":")[2] for item in items] == ["1", "2", "3", "4"]
        refused = reasons(items)
        assert "exactly one" in refused[0]
        assert "cells" in refused[1]
        first = event_of(messages(items[:1])[0])
        assert (first.asset.key, first.payload) == ("1", Inline(b"The heron\nin two lines"))
        assert json.loads(first.attributes_json) == {"river": "Isar"}
    (message,) = messages(list(CsvSource((tmp_path / "t.tsv").as_uri(), settings, ProduceOptions()).items(None)))
    assert message.value == b"The heron"
    check_continues(lambda: CsvSource((tmp_path / "t.csv").as_uri(), settings, options))


def test_a_pattern_of_several_csv_files_is_refused(tmp_path: Path, settings: Settings) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\nx\n")
    with pytest.raises(UsageError, match="names 2 files"):
        list(CsvSource(f"file://{tmp_path}/*.csv", settings, ProduceOptions()).items(None))


def test_a_csv_that_breaks_off_ends_with_a_refusal(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "t.csv").write_bytes(b'text\nfirst\n"never ends\n')
    items = list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None))
    assert len(items) == 2
    assert "cannot be read" in reasons(items)[-1]


def test_a_row_that_is_no_unicode_is_refused_alone(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "t.csv").write_bytes(b"text\nfirst\n\xff\xfe\nthird\n")
    items = list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None))
    assert ["cannot be sent" in reason for reason in reasons(items)] == [True]
    assert len(items) == 3


def test_lines_of_json_continue_behind_any_of_them(
    tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    lines = ['{"text": "a", "key": "1"}', "", "{", '{"path": "x.png"}', '{"uri": "s3://b/c.png", "modality": "image"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    url = (tmp_path / "t.jsonl").as_uri()
    items = list(JsonLinesSource(url, settings, ProduceOptions()).items(None))
    assert [item.label.rpartition(":")[2] for item in items] == ["1", "3", "4", "5"]
    assert "not JSON" in reasons(items)[0]
    assert "on this machine" in reasons(items)[1]
    check_continues(lambda: JsonLinesSource(url, settings, ProduceOptions()))


class RangeFile(AbstractBufferedFile):
    """A file that is read by ranges, as those of buckets are: its `readline` takes no limit."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end)
        return data


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("by_ranges", [False, True])
def test_a_line_of_json_that_is_too_long_is_refused_alone(
    end: str, by_ranges: bool, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 20)
    if by_ranges:
        monkeypatch.setattr(FileSystem, "open", lambda self, path: RangeFile(self._files, path, "rb"))
    exact = '{"text": "12345678"}'
    assert len(exact) == 20
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(['{"text": "a"}', "x" * 95, exact, "x" * 40, "", exact]) + end)
    items = list(JsonLinesSource(file.as_uri(), settings, ProduceOptions()).items(None))
    assert [item.label.rpartition(":")[2] for item in items] == ["1", "2", "3", "4", "6"]
    assert reasons(items) == ["is longer than 20 bytes"] * 2
    assert items[-1].mark is not None
    assert items[-1].mark.done == file.stat().st_size
    check_continues(lambda: JsonLinesSource(file.as_uri(), settings, ProduceOptions()))
    local = list(LocalSource(str(file), settings, ProduceOptions()).items(None))
    assert reasons(local) == ["is longer than 20 bytes"] * 2
    assert len(local) == 5


class Reads(io.BytesIO):
    """A file without an end that counts what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0
        self.taken += size
        assert self.taken < 100_000, "it is read on and on"
        return b"x" * size

    read1 = read


def test_a_row_of_csv_without_an_end_is_not_read_on_and_on(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 50)
    bounded = tables._RowLines(io.TextIOWrapper(Reads(), newline=""))
    with pytest.raises(csv.Error, match="a row is longer than 50"):
        next(bounded)
    rows = ["text,title"] + [f"{number},x" for number in range(40)] + ['"a', *["b" * 9] * 9, '",x', "after,x"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    items = list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None))
    assert len(items) == 41
    assert "a row is longer than 50 characters" in reasons(items)[0]
    (tmp_path / "t.csv").write_text("text," + "x" * 60 + "\n")
    with pytest.raises(UsageError, match="first line of names"):
        list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None))


def test_large_rows_of_parquet_are_read_in_smaller_batches(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BATCH_BYTES", 10_000)
    rows = [{"text": "x", "image": {"bytes": b"", "n": row}} for row in range(8)]
    rows += [{"text": str(row) * 5_000, "image": {"bytes": b"", "n": row}} for row in range(8)]
    rows += [{"text": str(row) * 50_000, "image": {"bytes": b"", "n": row}} for row in range(8)]
    write(tmp_path / "t.parquet", rows, group=8)
    table = parquet.ParquetFile(tmp_path / "t.parquet")
    sizes = [batch.num_rows for batch in tables._batches(table, [0, 1, 2], ["text"])]
    assert sizes[0] == 8
    assert set(sizes[1:-8]) <= {1, 2}
    assert sizes[-8:] == [1] * 8
    assert sum(sizes) == len(rows)
    images = [batch.num_rows for batch in tables._batches(table, [0, 1, 2], ["image"])]
    assert images == [8, 8, 8], "columns that are not read do not count"
    check_continues(lambda: ParquetSource((tmp_path / "t.parquet").as_uri(), settings, ProduceOptions()))


def test_an_argument_is_opened_by_its_ending(tmp_path: Path, settings: Settings) -> None:
    options = ProduceOptions()
    kinds = {
        "s3://b/photos": "ObjectSource",
        "s3://b/t.parquet": "ParquetSource",
        "s3://b/*.tar": "ShardSource",
        "s3://b/t.jsonl": "JsonLinesSource",
        "kafka:old.topic": "TopicSource",
        "kafka://host:9092/old.topic": "TopicSource",
        str(tmp_path / "t.csv"): "CsvSource",
    }
    for argument, kind in kinds.items():
        assert type(open_source(argument, settings, options)).__name__ == kind
    for argument in ("photos", "t.jsonl", "a.png", "-", str(tmp_path)):
        assert open_source(argument, settings, options) is None
    for argument in ("kafka:", "kafka://host:9092", "kafka:a/b"):
        with pytest.raises(UsageError, match="has no topic"):
            open_source(argument, settings, options)
