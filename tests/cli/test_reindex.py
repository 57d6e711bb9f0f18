"""The commands of a re-index show and refuse what they should, without services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.assets import AssetStore
from penstock.cli.main import main
from penstock.records import AssetRef
from penstock.versions import (
    KeptIndex,
    MissingAsset,
    Progress,
    Reindex,
    write_kept_index,
    write_missing,
    write_progress,
    write_reindex,
)

REINDEX = Reindex(1, 2, "small", "penstock.v2", 5, settings={"store": {"version": 2}})


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AssetStore:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_CONFIG", str(tmp_path / "none.toml"))
    return AssetStore((tmp_path / "assets").as_uri())


def test_without_an_index_status_says_where_it_looked(
    notes: AssetStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["reindex", "status"]) == 3
    message = capsys.readouterr().err
    assert "no Milvus is configured (store.uri)" in message
    assert str(tmp_path) in message


def test_without_a_reindex_there_is_nothing_to_show(
    notes: AssetStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE__URI", "http://milvus:19530")
    assert main(["reindex", "status"]) == 0
    assert "No re-index is under way" in capsys.readouterr().err
    assert main(["reindex", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reindex": None, "progress": None, "missing": []}


def test_status_shows_the_progress_the_time_left_and_what_is_missing(
    notes: AssetStore, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reindex(notes, REINDEX)
    write_progress(notes, Progress(done=300, total=9_000, missing=2, rate_per_s=2.0, updated_ms=1, lag=40))
    write_missing(notes, [MissingAsset(AssetRef("acme", "media.image", f"k{n}"), "gone") for n in range(2)])
    assert main(["reindex", "status"]) == 1
    shown = capsys.readouterr()
    for expected in ("1 to 2", "filling", "small", "penstock.v2", "300 of 9,000", "2.0/s", "1 h 12 min"):
        assert expected in shown.out
    assert "missing: acme/media.image/k1: gone" in shown.err
    assert main(["reindex", "status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["reindex"]["to_version"], document["progress"]["left_s"]) == (2, 4_350.0)
    assert document["missing"][0] == {"tenant": "acme", "topic": "media.image", "key": "k0", "reason": "gone"}


def test_a_fill_without_services_says_what_is_missing(notes: AssetStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reindex", "start", "--profile", "null:2"]) == 3
    assert "no Kafka is configured" in capsys.readouterr().err
    assert main(["reindex", "drop"]) == 3


def test_only_versions_of_the_index_are_audited(
    notes: AssetStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("PENSTOCK_STORE__URI", "http://milvus:19530")
    assert main(["audit", "--index-version", "2"]) == 2
    assert "no re-index under way has this one" in capsys.readouterr().err
    write_reindex(notes, REINDEX)
    assert main(["audit", "--index-version", "3"]) == 2


def test_commands_take_the_settings_of_the_version_that_stayed(
    notes: AssetStore, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kept_index(notes, KeptIndex(2, {"store": {"version": 2}, "kafka": {"group": "penstock.v2"}}))
    from penstock.cli.common import Globals, connected_settings

    class Context:
        obj = Globals()

    settings = connected_settings(Context())  # type: ignore[arg-type]
    assert (settings.store.version, settings.kafka.group) == (2, "penstock.v2")
