"""Tests which messages the objects below a URL become, and that a listing continues behind any of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from penstock.broker.base import Message
from penstock.config import MIB, Settings
from penstock.errors import UnavailableError, UsageError
from penstock.produce.file_systems import FileSystem, order_of
from penstock.produce.items import ProduceOptions
from penstock.produce.objects import ObjectSource
from penstock.produce.prefetch import read_ahead
from penstock.records import Event, Inline
from tests.produce.conftest import check_continues, messages, reasons

_numbers = itertools.count()


@pytest.fixture
def url(png: bytes) -> Iterator[str]:
    """A folder in memory, named `photos`."""
    files = fsspec.filesystem("memory")
    root = f"/lake{next(_numbers)}/photos"
    content = {
        "b.png": png,
        "note.txt": b"The heron came back.",
        "2026/a.png": png,
        "2026/z/deep.png": png,
        "2025.d/c.png": png,
        ".hidden": b"no",
        ".cache/x.txt": b"no",
    }
    for name, data in content.items():
        files.pipe_file(f"{root}/{name}", data)
    yield f"memory:/{root}"
    files.rm(root.rsplit("/", 1)[0], recursive=True)


def test_objects_have_the_keys_of_their_folder_and_topics_of_their_bytes(
    url: str, settings: Settings, event_of: Callable[[Message], Event], png: bytes
) -> None:
    sent = messages(list(ObjectSource(url, settings, ProduceOptions(tenant="acme")).items(None)))
    assert [(message.key, message.topic) for message in sent] == [
        (b"photos/b.png", "media.image"),
        (b"photos/note.txt", "media.text"),
        (b"photos/2025.d/c.png", "media.image"),
        (b"photos/2026/a.png", "media.image"),
        (b"photos/2026/z/deep.png", "media.image"),
    ]
    parsed = event_of(sent[0])
    assert (parsed.asset.tenant, parsed.title, parsed.payload) == ("acme", "b.png", Inline(png))
    assert json.loads(parsed.attributes_json) == {"path": "photos/b.png"}


def test_a_listing_continues_behind_any_of_its_objects(url: str, settings: Settings) -> None:
    check_continues(lambda: ObjectSource(url, settings, ProduceOptions()))
    assert ObjectSource(url, settings, ProduceOptions()).total() == 5


def test_a_single_object_is_sent_once(url: str, settings: Settings) -> None:
    source = ObjectSource(f"{url}/b.png", settings, ProduceOptions())
    (message,) = messages(list(source.items(None)))
    assert message.key == b"photos/b.png"
    check_continues(lambda: ObjectSource(f"{url}/b.png", settings, ProduceOptions()))


def test_what_cannot_be_sent_is_refused_alone(url: str, settings: Settings) -> None:
    files = fsspec.filesystem("memory")
    root = url.removeprefix("memory:/")
    files.pipe_file(f"{root}/0empty.png", b"")
    files.pipe_file(f"{root}/1zip.zip", b"PK\x03\x04" + bytes(40))
    files.pipe_file(f"{root}/2large.png", bytes(2 * MIB))
    items = list(ObjectSource(url, settings, ProduceOptions()).items(None))
    empty, archive, large = reasons(items)
    assert empty == "is empty"
    assert "no decoder" in archive
    assert "'memory'" in large  # sent by its address, which has a scheme that ingest does not read
    assert len(items) == 8


def test_a_folder_that_does_not_exist_is_said(settings: Settings) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        list(ObjectSource("memory://nowhere/at/all", settings, ProduceOptions()).items(None))
    with pytest.raises(UsageError, match="cannot be opened"):
        ObjectSource("nosuchscheme://x", settings, ProduceOptions())


def test_local_files_can_be_sent_by_their_address(
    tmp_path: Any, settings: Settings, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "a.png").write_bytes(png)
    allowed = settings.model_copy(
        update={
            "fetch": settings.fetch.model_validate(
                {"allow": [{"tenants": ["*"], "scheme": "file", "prefix": str(folder)}]}
            )
        }
    )
    options = ProduceOptions(claim_check=True)
    (message,) = messages(list(ObjectSource(f"file://{folder}", allowed, options).items(None)))
    assert dict(message.headers)["ce_dataref"] == (folder / "a.png").as_uri().encode()
    assert message.topic == "media.image"
    assert reasons(list(ObjectSource(f"file://{folder}", settings, options).items(None)))[0].startswith("no rule")

    def read(*_: object, **__: object) -> bytes:
        raise AssertionError("it is read")

    monkeypatch.setattr(FileSystem, "read", read)
    to_topic = ProduceOptions(claim_check=True, topic="media.image")
    (unread,) = messages(list(ObjectSource(f"file://{folder}", allowed, to_topic).items(None)))
    assert (unread.topic, dict(unread.headers)["ce_dataref"]) == (message.topic, dict(message.headers)["ce_dataref"])


def test_a_server_that_fails_ends_the_listing_and_says_so(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ObjectSource(url, settings, ProduceOptions())
    read = FileSystem.read
    reads = itertools.count()

    def failing(self: FileSystem, path: str, *, end: int | None = None) -> bytes:
        if next(reads) == 2:
            raise UnavailableError("could not read it: the server is away")
        return read(self, path, end=end)

    monkeypatch.setattr(FileSystem, "read", failing)
    yielded = []
    with pytest.raises(UnavailableError, match="away"):
        yielded.extend(source.items(None))


def test_paths_are_ordered_as_they_are_walked() -> None:
    walked = ["/r/b", "/r/c", "/r/a/x", "/r/a/d/y", "/r/a.d/z"]
    keys = [order_of(path, "/r") for path in walked]
    assert sorted(keys) == [order_of(path, "/r") for path in ["/r/b", "/r/c", "/r/a/x", "/r/a/d/y", "/r/a.d/z"]]


def test_reads_ahead_keep_their_order_and_their_bound() -> None:
    running, highest = 0, 0

    def read(number: int) -> int:
        return number * 10

    def sized(number: int) -> int:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        return 30

    results = []
    for result in read_ahead(range(20), read, size_of=sized, threads=4, max_bytes=100):
        running -= 1
        results.append(result)
    assert results == [number * 10 for number in range(20)]
    assert highest <= 4  # three of 30 bytes fit, and the next one waits to be started


def test_an_error_comes_when_its_turn_does() -> None:
    def read(number: int) -> int:
        if number == 3:
            raise UnavailableError("away")
        return number

    results = read_ahead(range(9), read, size_of=lambda _: 1, threads=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UnavailableError):
        next(results)
