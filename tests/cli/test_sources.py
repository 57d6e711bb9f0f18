"""Tests which messages and refusals `penstock produce` derives from files, folders and JSONL."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Message
from penstock.broker.wire import parse_record
from penstock.cli.sources import read_all, tombstone
from penstock.config import MIB, Settings, load_settings
from penstock.errors import UsageError
from penstock.produce.items import OutgoingMessage, ProduceItem, ProduceOptions, RefusedSource
from penstock.records import ClaimCheck, Event, Inline, Modality, Position, Record

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data", kafka={"max_message_bytes": MIB})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "2026").mkdir(parents=True)
    (root / ".cache").mkdir()
    (root / "b.png").write_bytes(PNG)
    (root / "2026" / "note.txt").write_text("The heron came back in March.")
    (root / ".hidden.txt").write_text("not this")
    (root / ".cache" / "x.txt").write_text("nor this")
    return root


def read(paths: Sequence[Path | str], settings: Settings, **options: Any) -> list[ProduceItem]:
    return list(read_all([str(path) for path in paths], settings, ProduceOptions(**options)))


def lines(settings: Settings, *objects: Any, folder: Path | None = None) -> list[ProduceItem]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in objects)
    if folder is None:
        return list(read_all(["-"], settings, ProduceOptions(), io.StringIO(text)))
    (folder / "events.jsonl").write_text(text)
    return read([folder / "events.jsonl"], settings)


def sent(items: Sequence[ProduceItem]) -> list[Message]:
    refused = [item for item in items if isinstance(item, RefusedSource)]
    assert refused == []
    return [item.message for item in items if isinstance(item, OutgoingMessage)]


def reason_of(items: Sequence[ProduceItem]) -> str:
    (item,) = items
    assert isinstance(item, RefusedSource)
    return item.reason


def event(message: Message, settings: Settings) -> Event:
    """Returns the event as the ingest plane parses it."""
    record = Record(Position(message.topic, 0, 0), message.key, message.value, message.headers, 0)
    modality = settings.kafka.topics()[message.topic]
    parsed = parse_record(record, modality=modality, default_tenant="nobody", max_inline_bytes=64 * MIB)
    assert isinstance(parsed, Event)
    return parsed


# --- files and folders -----------------------------------------------------------------------------------------------


def test_a_folder_is_read_sorted_without_what_is_hidden(folder: Path, settings: Settings) -> None:
    messages = sent(read([folder], settings))
    assert [message.key for message in messages] == [b"photos/b.png", b"photos/2026/note.txt"]
    assert [message.topic for message in messages] == ["media.image", "media.text"]


def test_the_same_folder_again_has_the_same_keys_however_it_is_named(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = [message.key for message in sent(read([folder], settings))]
    monkeypatch.chdir(folder)
    assert [message.key for message in sent(read(["."], settings))] == absolute
    assert sent(read(["b.png"], settings))[0].key == b"photos/b.png"


def test_an_event_has_the_type_time_and_path_of_its_file(folder: Path, settings: Settings) -> None:
    os.utime(folder / "b.png", (1_700_000_000, 1_700_000_000))
    (message,) = sent(read([folder / "b.png"], settings, tenant="acme", attributes={"camera": "x100"}))
    parsed = event(message, settings)
    assert parsed.asset.tenant == "acme"
    assert parsed.title == "b.png"
    assert parsed.content_type == "image/png"
    assert parsed.event_time_ms == 1_700_000_000_000
    assert json.loads(parsed.attributes_json) == {"path": "photos/b.png", "camera": "x100"}
    assert parsed.payload == Inline(PNG)


def test_an_event_without_a_tenant_has_the_configured_one(folder: Path, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, tenant="acme")
    (message,) = sent(read([folder / "b.png"], settings))
    assert event(message, settings).asset.tenant == "acme"


def test_a_key_can_be_given_for_one_file(folder: Path, settings: Settings) -> None:
    assert sent(read([folder / "b.png"], settings, key="heron"))[0].key == b"heron"


def test_a_topic_can_be_forced(folder: Path, settings: Settings) -> None:
    assert sent(read([folder / "b.png"], settings, topic="media.text"))[0].topic == "media.text"


def test_a_missing_path_is_reported_before_anything_is_sent(folder: Path, settings: Settings) -> None:
    with pytest.raises(UsageError, match="missing"):
        next(read_all([str(folder), "missing"], settings, ProduceOptions()))


def test_two_folders_of_one_name_are_refused(folder: Path, tmp_path: Path, settings: Settings) -> None:
    other = tmp_path / "other" / "photos"
    other.mkdir(parents=True)
    with pytest.raises(UsageError, match="both named 'photos'"):
        next(read_all([str(folder), str(other)], settings, ProduceOptions()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (bytes(range(256)), "no decoder supports"),
        (b"ID3\x03" + bytes(60), "audio, which is not ingested"),
    ],
)
def test_a_file_that_cannot_be_indexed_is_refused_without_a_message(
    data: bytes, words: str, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert words in reason_of(read([tmp_path / "file"], settings))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path, settings: Settings) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in reason_of(read([tmp_path / "pipe"], settings))


def test_a_link_to_nowhere_does_not_stop_the_rest(folder: Path, settings: Settings) -> None:
    (folder / "a.png").symlink_to("gone.png")
    refused, *rest = read([folder], settings)
    assert isinstance(refused, RefusedSource)
    assert len(sent(rest)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_listed(folder: Path, settings: Settings) -> None:
    (folder / "b.png").chmod(0)
    (folder / "2026").chmod(0)
    try:
        refused = read([folder], settings)
    finally:
        (folder / "2026").chmod(0o700)
    assert [isinstance(item, RefusedSource) and "Permission denied" in item.reason for item in refused] == [True, True]


CASES = Path(__file__).parents[1] / "cases" / "produce"
REFUSED = ("surrogate", "hugeint", "negtime")


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda file: file.stem)
def test_one_bad_line_is_refused_with_its_number_and_the_others_are_sent(file: Path, settings: Settings) -> None:
    first, second = read([file], settings)
    assert isinstance(second, OutgoingMessage)
    if any(word in file.stem for word in REFUSED):
        assert isinstance(first, RefusedSource)
        assert first.label == f"{file}:1"
    else:
        assert isinstance(first, OutgoingMessage)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"text": "caf\xe9"}', "UTF-8"),
        (b'{"text": "x", "attributes": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested"),
        (b'{"text": "x", "time": 1e400}', "time"),
        (b'{"text": "x", "time": 99999999999999999}', "9999"),
        (b'{"path": "a\\u0000b"}', "regular file"),
        (b'{"text": null}', "exactly one"),
        (b'{"text": "x", "attributes": {"\\udc00": 1}}', "surrogate"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_is_wrong_with_a_line_is_said_and_the_next_is_sent(
    line: bytes, named: str, tmp_path: Path, settings: Settings
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(line + b'\n{"text": "the next"}\n')
    refused, sent_line = read([file], settings)
    assert isinstance(refused, RefusedSource)
    assert named in refused.reason
    assert isinstance(sent_line, OutgoingMessage)


# --- large files and claim checks ------------------------------------------------------------------------------------


def allowed(tenant: str, folder: Path) -> dict[str, Any]:
    return {"allow": [{"tenants": [tenant], "scheme": "file", "prefix": str(folder)}]}


def test_a_large_recording_whose_tracks_are_listed_at_its_end_goes_to_the_topic_of_audio(
    tmp_path: Path,
) -> None:
    settings = load_settings(
        data_dir=tmp_path / "data",
        kafka={"max_message_bytes": MIB},
        fetch=allowed("*", tmp_path),
        ingest={"modalities": list(Modality)},
    )

    def box(name: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + name + body

    handler = box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + b"soun" + bytes(12))))
    file = tmp_path / "talk.mp4"
    file.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", b"vide" * MIB) + box(b"moov", handler))
    (message,) = sent(read([file], settings))
    assert message.topic == settings.kafka.topic_of(Modality.AUDIO)


def test_a_file_of_2_gb_is_refused_without_being_read(tmp_path: Path, settings: Settings) -> None:
    with (tmp_path / "huge.txt").open("wb") as sink:
        sink.truncate(2 * 1024 * MIB)
    assert "fetch.max_bytes" in reason_of(read([tmp_path / "huge.txt"], settings))


def test_a_file_too_large_for_a_message_is_sent_as_a_claim_check_if_that_is_allowed(tmp_path: Path) -> None:
    settings = load_settings(
        data_dir=tmp_path / "data",
        kafka={"max_message_bytes": MIB},
        fetch=allowed("*", tmp_path),
    )
    (tmp_path / "large.png").write_bytes(PNG + bytes(2 * MIB))
    (message,) = sent(read([tmp_path / "large.png"], settings))
    parsed = event(message, settings)
    assert parsed.modality is Modality.IMAGE
    assert parsed.payload == ClaimCheck((tmp_path / "large.png").as_uri())
    assert len(message.value or b"") == 0


def test_a_file_too_large_for_a_message_is_refused_where_its_folder_is_not_allowed(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "large.png").write_bytes(PNG + bytes(2 * MIB))
    reason = reason_of(read([tmp_path / "large.png"], settings))
    assert "fetch.allow" in reason
    assert str(tmp_path) in reason


def test_an_option_sends_claim_checks_for_all_files(folder: Path, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data", fetch=allowed("default", folder))
    (message,) = sent(read([folder / "b.png"], settings, claim_check=True))
    assert event(message, settings).payload == ClaimCheck((folder / "b.png").as_uri())


# --- JSONL -----------------------------------------------------------------------------------------------------------


def test_a_line_with_all_its_fields(settings: Settings) -> None:
    line = {
        "key": "k", "modality": "text", "text": "A heron stood in the rain.", "title": "Heron", "tenant": "acme",
        "attributes": {"river": "Isar"}, "time": "2026-03-01T12:00:00Z", "id": "e-1",
    }  # fmt: skip
    (message,) = sent(lines(settings, line))
    parsed = event(message, settings)
    assert (parsed.asset.key, parsed.asset.tenant, parsed.title) == ("k", "acme", "Heron")
    assert json.loads(parsed.attributes_json) == {"river": "Isar"}
    assert parsed.event_time_ms == 1_772_366_400_000
    assert parsed.payload == Inline(b"A heron stood in the rain.")
    assert ("ce_id", b"e-1") in message.headers


def test_the_same_text_without_a_key_has_the_same_key(settings: Settings) -> None:
    first, second, other = sent(lines(settings, {"text": "a"}, {"text": "a"}, {"text": "b"}))
    assert first.key == second.key != other.key


def test_a_path_is_relative_to_the_folder_of_the_file(folder: Path, settings: Settings) -> None:
    (message,) = sent(lines(settings, {"path": "b.png", "title": "A heron"}, folder=folder))
    parsed = event(message, settings)
    assert (parsed.asset.key, parsed.title, parsed.modality) == ("b.png", "A heron", Modality.IMAGE)


def test_a_uri_is_a_claim_check(settings: Settings) -> None:
    (message,) = sent(lines(settings, {"uri": "https://example.org/a.jpg", "modality": "image"}))
    assert event(message, settings).payload == ClaimCheck("https://example.org/a.jpg")
    assert message.topic == "media.image"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"key": "k"}, "exactly one of"),
        ({"text": "a", "uri": "b"}, "exactly one of"),
        ({"text": "a", "colour": "red"}, "unknown fields colour"),
        ({"text": 1}, "not a string"),
        ({"text": "a", "attributes": []}, "not a JSON object"),
        ({"text": "a", "attributes": {"deep": {"er": 1}}}, "neither a scalar"),
        ({"text": "a", "modality": "smell"}, "unknown modality 'smell'"),
        ({"text": "a", "modality": "audio"}, "not ingested"),
        ({"text": "a", "topic": "other"}, "'other' is not a media topic"),
        ({"uri": "https://example.org/a.jpg"}, "modality or topic"),
        ({"text": "a", "time": "yesterday"}, "RFC 3339"),
        ({"text": "a", "time": "2026-03-01T12:00:00"}, "UTC offset"),
        ({"text": "a", "tenant": "no spaces please"}, "tenant"),
        ({"path": "missing.png"}, "regular file"),
    ],
)
def test_a_bad_line_is_refused_by_number_and_the_next_is_sent(line: Any, words: str, settings: Settings) -> None:
    refused, good = lines(settings, line, {"text": "fine"})
    assert isinstance(refused, RefusedSource)
    assert refused.label == "stdin:1"
    assert words in refused.reason
    assert isinstance(good, OutgoingMessage)


# --- deletions -------------------------------------------------------------------------------------------------------


def test_a_tombstone_deletes_the_asset_of_its_key_and_tenant(settings: Settings) -> None:
    parsed = event(tombstone("photos/b.png", "media.image", "acme").message, settings)
    assert parsed.is_tombstone
    assert (parsed.asset.tenant, parsed.asset.topic, parsed.asset.key) == ("acme", "media.image", "photos/b.png")


def test_labels_are_those_of_the_line_or_else_of_the_command(settings: Settings, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "a", "acl": ["group:b", "group:a"]}\n{"text": "b"}\n{"text": "c", "acl": []}\n')
    messages = sent(read([lines], settings, acl=["tenant", "user:x"]))
    acls = [json.loads(dict(message.headers)["ce_acl"]) for message in messages]
    assert acls == [["group:a", "group:b"], ["tenant", "user:x"], []]
    lines.write_text('{"text": "b"}\n')
    (without,) = sent(read([lines], settings))
    assert "ce_acl" not in dict(without.headers)


@pytest.mark.parametrize("acl", ['"group:a"', '["a b"]', "[1]", '{"a": 1}'])
def test_a_line_with_wrong_labels_is_refused(settings: Settings, tmp_path: Path, acl: str) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f'{{"text": "a", "acl": {acl}}}\n')
    (refused,) = read([lines], settings)
    assert isinstance(refused, RefusedSource)
    assert "acl" in refused.reason
