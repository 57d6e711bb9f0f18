from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.assets import AssetStore
from penstock.assets.backup_note import BackupNote, read_backup_note, write_backup_note
from penstock.errors import UnavailableError
from penstock.ingest.backup_age import BackupAge
from penstock.observability import metrics


@pytest.fixture(autouse=True)
def _at_zero() -> Iterator[None]:
    metrics.BACKUP_AGE.clear()
    yield
    metrics.BACKUP_AGE.clear()


def exported() -> dict[str, float]:
    samples = next(iter(metrics.BACKUP_AGE.collect())).samples
    return {sample.labels["index_version"]: sample.value for sample in samples if not math.isnan(sample.value)}


def test_the_age_is_that_of_the_last_backup(tmp_path: Path) -> None:
    assets = AssetStore(tmp_path.as_uri())
    now_s = [1_000.0]
    age = BackupAge(assets, lambda: now_s[0])
    age.export()
    assert exported() == {}
    write_backup_note(assets, BackupNote("a", 1, 400_000))
    age.export()
    assert exported() == {"1": 600.0}
    now_s[0] = 2_000.0
    write_backup_note(assets, BackupNote("b", 2, 1_900_000))
    age.export()
    assert exported() == {"2": 100.0}


def test_an_asset_store_that_does_not_answer_leaves_no_age(tmp_path: Path) -> None:
    assets = AssetStore((tmp_path / "assets").as_uri())
    write_backup_note(assets, BackupNote("a", 1, 0))
    age = BackupAge(assets, lambda: 60.0)
    age.export()
    assert exported() == {"1": 60.0}
    (tmp_path / "assets" / "backup.json").unlink()
    (tmp_path / "assets" / "backup.json").mkdir()
    with pytest.raises(UnavailableError):
        age.export()
    assert exported() == {}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"id": 1, "unknown": 2}'])
def test_a_note_of_another_form_is_none(tmp_path: Path, data: bytes) -> None:
    assets = AssetStore(tmp_path.as_uri())
    assets.put_note("backup.json", data)
    assert read_backup_note(assets) is None
