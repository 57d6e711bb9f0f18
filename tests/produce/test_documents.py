"""Tests that documents of each kind of source go to their topic, and that what is not read is refused by its name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from penstock.broker.base import Message
from penstock.cli.sources import LocalSource
from penstock.config import MIB, Settings, load_settings
from penstock.media.documents.types import TYPES
from penstock.media.sniff import sniff
from penstock.produce import objects
from penstock.produce.base import MediaSource
from penstock.produce.file_systems import FileSystem
from penstock.produce.items import ProduceOptions
from penstock.produce.objects import ObjectSource
from penstock.produce.shards import ShardSource
from penstock.produce.tables import CsvSource, ParquetSource
from penstock.records import ClaimCheck, Event, Inline, Modality
from tests.media.documents.made import lines, pdf
from tests.media.documents.ole import ole_container
from tests.media.documents.test_types import MADE, OFFICE, archive
from tests.produce.conftest import messages, reasons
from tests.produce.test_shards import shard

TOPIC = "media.document"
_numbers = itertools.count()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        data_dir=tmp_path / "data",
        kafka={"max_message_bytes": MIB},
        ingest={"modalities": [Modality.TEXT, Modality.IMAGE, Modality.DOCUMENT]},
        fetch={"allow": [{"tenants": ["*"], "scheme": "file", "prefix": str(tmp_path)}]},
    )


@pytest.fixture(scope="module")
def documents() -> Mapping[str, bytes]:
    """A document of each kind, by a name whose ending says nothing."""
    return {f"{number}.bin": make() for number, (make, _, _) in enumerate(MADE)}


@pytest.fixture
def folder(tmp_path: Path, documents: Mapping[str, bytes]) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    for name, data in documents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def url(documents: Mapping[str, bytes]) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    root = f"/documents{next(_numbers)}/papers"
    for name, data in documents.items():
        files.pipe_file(f"{root}/{name}", data)
    yield f"memory:/{root}"
    files.rm(root.rsplit("/", 1)[0], recursive=True)


def check_all(sent: list[Message], documents: Mapping[str, bytes], event_of: Callable[[Message], Event]) -> None:
    """Checks that messages are the documents, each with a type that a parser reads."""
    assert {message.topic for message in sent} == {TOPIC}
    events = [event_of(message) for message in sent]
    assert [event.payload for event in events] == [Inline(data) for data in documents.values()]
    for event, (_, mime, kind) in zip(events, MADE, strict=True):
        assert TYPES[mime] is kind
        assert sniff(event.payload.data, declared=event.content_type).mime == mime  # type: ignore[union-attr]


def test_a_folder_of_documents_goes_to_their_topic(
    folder: Path, documents: Mapping[str, bytes], settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    sent = messages(list(LocalSource(str(folder), settings, ProduceOptions()).items(None)))
    check_all(sent, documents, event_of)
    assert [dict(message.headers)["content-type"].decode() for message in sent] == [mime for _, mime, _ in MADE]


def test_a_bucket_of_documents_goes_to_their_topic(
    url: str, documents: Mapping[str, bytes], settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    check_all(messages(list(ObjectSource(url, settings, ProduceOptions()).items(None))), documents, event_of)


def test_documents_of_a_table_go_to_their_topic(
    tmp_path: Path, documents: Mapping[str, bytes], settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    rows = [{"file": data, "name": name} for name, data in documents.items()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    options = ProduceOptions(columns={"data": "file", "key": "name"})
    sent = messages(list(ParquetSource((tmp_path / "t.parquet").as_uri(), settings, options).items(None)))
    check_all(sent, documents, event_of)
    assert [message.key for message in sent] == [name.encode() for name in documents]


def test_documents_of_a_shard_go_to_their_topic(
    tmp_path: Path, documents: Mapping[str, bytes], settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    files = {"0.txt": b"A caption", **documents}
    source = ShardSource(shard(tmp_path / "00.tar", files), settings, ProduceOptions())
    sent = messages(list(source.items(None)))
    check_all(sent, documents, event_of)
    assert event_of(sent[0]).title == "A caption"


def test_lines_name_documents_by_path_or_address(
    folder: Path, settings: Settings, event_of: Callable[[Message], Event], documents: Mapping[str, bytes]
) -> None:
    (folder / "list.jsonl").write_text(
        json.dumps({"path": "0.bin", "key": "p"})
        + "\n"
        + json.dumps({"uri": "https://x/a.pdf", "modality": "document"})
    )
    by_path, by_address = messages(
        list(LocalSource(str(folder / "list.jsonl"), settings, ProduceOptions()).items(None))
    )
    assert (by_path.topic, by_path.key, by_path.value) == (TOPIC, b"p", documents["0.bin"])
    assert (by_address.topic, event_of(by_address).payload) == (TOPIC, ClaimCheck("https://x/a.pdf"))


def test_rows_of_csv_name_documents_by_address(
    tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    (tmp_path / "t.csv").write_text("uri,modality\nhttps://x/a.docx,document\n")
    (message,) = messages(list(CsvSource((tmp_path / "t.csv").as_uri(), settings, ProduceOptions()).items(None)))
    assert (message.topic, event_of(message).payload) == (TOPIC, ClaimCheck("https://x/a.docx"))


def local(file: Path, settings: Settings, **options: Any) -> MediaSource:
    return LocalSource(str(file), settings, ProduceOptions(**options))


def remote(file: Path, settings: Settings, **options: Any) -> MediaSource:
    return ObjectSource(file.as_uri(), settings, ProduceOptions(**options))


@pytest.mark.parametrize("source", [local, remote])
def test_a_document_too_large_for_a_message_becomes_a_claim_check(
    source: Callable[..., MediaSource], tmp_path: Path, settings: Settings, event_of: Callable[[Message], Event]
) -> None:
    file = tmp_path / "large.pdf"
    file.write_bytes(pdf(lines("x")) + b"\n%" + bytes(MIB))
    (message,) = messages(list(source(file, settings).items(None)))
    assert (message.topic, event_of(message).payload) == (TOPIC, ClaimCheck(file.as_uri()))
    nothing_allowed = settings.model_copy(update={"fetch": settings.fetch.model_copy(update={"allow": ()})})
    assert "fetch.allow" in reasons(list(source(file, nothing_allowed).items(None)))[0]
    little = settings.model_copy(update={"fetch": settings.fetch.model_copy(update={"max_bytes": 1_000})})
    assert "fetch.max_bytes" in reasons(list(source(file, little).items(None)))[0]


@pytest.mark.parametrize("source", [local, remote])
@pytest.mark.parametrize("document", MADE, ids=[kind.value for _, _, kind in MADE])
def test_a_document_by_its_address_has_its_type(
    document: Any, source: Callable[..., MediaSource], tmp_path: Path, settings: Settings
) -> None:
    make, mime, _ = document
    (tmp_path / "file").write_bytes(make())
    (message,) = messages(list(source(tmp_path / "file", settings, claim_check=True).items(None)))
    assert message.topic == TOPIC
    assert dict(message.headers)["content-type"].decode() == mime


def test_of_an_archive_by_its_address_the_directory_is_read_where_its_first_files_do_not_say_what_it_is(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = f'<Types><Override PartName="/word/document.xml" ContentType="{OFFICE}wordprocessingml.document.main+xml"/>'
    files = (("padding", "x" * 3 * MIB), ("[Content_Types].xml", types), ("more", "y" * MIB))
    (tmp_path / "late.docx").write_bytes(archive(*files, compressed=False))
    (tmp_path / "other.zip").write_bytes(archive(*files[::2], compressed=False))
    (tmp_path / "first.docx").write_bytes(archive(*files[1:], compressed=False))
    spans: list[tuple[int, int]] = []
    read = FileSystem.read

    def noted(self: FileSystem, path: str, *, start: int = 0, end: int | None = None) -> bytes:
        assert end is not None
        spans.append((start, end))
        return read(self, path, start=start, end=end)

    monkeypatch.setattr(FileSystem, "read", noted)
    (message,) = messages(list(remote(tmp_path / "late.docx", settings, claim_check=True).items(None)))
    assert message.topic == TOPIC
    assert sum(end - start for start, end in spans) <= objects._MAX_BLOCKS * 65_536
    assert len(set(spans)) == len(spans) > 1
    (reason,) = reasons(list(remote(tmp_path / "other.zip", settings, claim_check=True).items(None)))
    assert reason == "is application/zip (an archive), which no decoder supports: send the files in it"
    spans.clear()
    messages(list(remote(tmp_path / "first.docx", settings, claim_check=True).items(None)))
    assert spans == [(0, 65_536)]


ODF = "application/vnd.oasis.opendocument."


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        (ole_container("WordDocument"), "application/msword (Word before 2007, DOC)", "DOCX"),
        (ole_container("Workbook"), "application/vnd.ms-excel (Excel before 2007, XLS)", "XLSX"),
        (ole_container("PowerPoint Document"), "application/vnd.ms-powerpoint (PowerPoint before 2007, PPT)", "PPTX"),
        (ole_container("__properties_version1.0"), "application/vnd.ms-outlook (a message of Outlook, MSG)", "EML"),
        (ole_container("EncryptedPackage"), "application/encrypted (an Office document with a password)", "without"),
        (archive(("mimetype", f"{ODF}text"), compressed=False), f"{ODF}text (OpenDocument text, ODT)", "DOCX or PDF"),
        (archive(("mimetype", f"{ODF}spreadsheet"), compressed=False), "OpenDocument spreadsheet, ODS", "XLSX"),
        (archive(("mimetype", f"{ODF}presentation"), compressed=False), "OpenDocument presentation, ODP", "PPTX"),
        (b"{\\rtf1\\ansi The heron.}", "application/rtf (Rich Text Format, RTF)", "DOCX"),
        (archive(("a.txt", "words")), "application/zip (an archive)", "files in it"),
    ],
)
@pytest.mark.parametrize("source", [local, remote])
def test_what_is_not_read_is_refused_by_its_name_with_what_to_send_instead(  # noqa: PLR0917
    data: bytes, name: str, advice: str, source: Callable[..., MediaSource], tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "file").write_bytes(data)
    (reason,) = reasons(list(source(tmp_path / "file", settings).items(None)))
    assert name in reason
    assert "no decoder supports" in reason
    assert advice in reason.partition("supports: ")[2]


@pytest.mark.parametrize("source", [local, remote])
def test_documents_are_refused_where_they_are_not_ingested(
    source: Callable[..., MediaSource], folder: Path, settings: Settings
) -> None:
    without = settings.model_copy(
        update={"ingest": settings.ingest.model_copy(update={"modalities": (Modality.TEXT, Modality.IMAGE)})}
    )
    (reason,) = reasons(list(source(folder / "0.bin", without).items(None)))
    assert reason == "is document, which is not ingested; add it to ingest.modalities (now: text, image)"
