"""Commands on backups that need no services: the backups were made of doubles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.assets import AssetStore
from penstock.backup import Manifest
from penstock.cli.main import main
from tests.backup.world import World


@pytest.fixture
def backup(tmp_path: Path) -> tuple[str, Manifest, Path]:
    """The URL, the manifest and the folder of a backup."""
    world = World(tmp_path)
    world.produce("k", b"3")
    world.produce("broken", b"bad")
    world.ingest()
    manifest = world.back_up().manifest
    return world.backups.url, manifest, tmp_path / "backups" / "backups" / manifest.id


def test_backups_are_listed_without_services(
    backup: tuple[str, Manifest, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, manifest, _ = backup
    assert main(["backup", url, "--list"]) == 0
    shown = capsys.readouterr().out
    assert manifest.id in shown
    assert "null:8" in shown
    assert main(["backup", url, "--list", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["counts"]["entries"] == {"text": 3, "image": 0}
    assert document["group"] == "group"


def test_a_whole_backup_is_verified(backup: tuple[str, Manifest, Path], capsys: pytest.CaptureFixture[str]) -> None:
    url, manifest, _ = backup
    assert main(["restore", url, "--dry-run"]) == 0
    assert f"Backup {manifest.id} of Penstock" in capsys.readouterr().err
    assert main(["restore", url, "--dry-run", "--backup", manifest.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == manifest.id


def test_a_damaged_part_is_named_with_exit_code_1(
    backup: tuple[str, Manifest, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, manifest, folder = backup
    (part,) = manifest.parts["text"]
    (folder / part.path).write_bytes(b"damaged")
    assert main(["restore", url, "--dry-run"]) == 1
    assert f"part {part.path} of backup {manifest.id}" in capsys.readouterr().err
    (folder / part.path).unlink()
    assert main(["restore", url, "--dry-run"]) == 1
    assert f"lacks its part {part.path}" in capsys.readouterr().err


def test_a_newer_backup_is_refused_with_exit_code_2(
    backup: tuple[str, Manifest, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, manifest, folder = backup
    document = json.loads((folder / "manifest.json").read_text()) | {"schema": 99, "penstock": "5.0"}
    (folder / "manifest.json").write_text(json.dumps(document))
    assert main(["restore", url]) == 2
    assert f"backup {manifest.id} has schema 99, made by Penstock 5.0" in capsys.readouterr().err


def test_a_place_without_backups_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", str(tmp_path)]) == 2
    assert f"there is no complete backup at {tmp_path}" in capsys.readouterr().err


def test_a_backup_without_services_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    assert main(["backup", str(tmp_path / "backups")]) == 3
    assert "no Kafka is configured" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "out")]) == 3
    assert "no Milvus is configured" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["backup", "restore", "export"])
def test_the_version_that_stayed_after_a_re_index_is_read_from_an_asset_store_elsewhere(
    command: str,
    backup: tuple[str, Manifest, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Shown by a note that is refused: whatever it says, no other version is taken silently."""
    assets = AssetStore((tmp_path / "elsewhere").as_uri())
    assets.put_note("index.json", json.dumps({"schema": 99}).encode())
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENSTOCK_ASSETS__URL", assets.url)
    monkeypatch.setenv("PENSTOCK_STORE__URI", "http://127.0.0.1:1")
    arguments = {
        "backup": [str(tmp_path / "new")],
        "restore": [backup[0], "--without-kafka"],
        "export": [str(tmp_path / "out")],
    }
    assert main([command, *arguments[command]]) == 2
    assert "the note index.json" in capsys.readouterr().err
