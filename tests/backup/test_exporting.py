from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from penstock.backup.exporting import ExportFolder, export
from penstock.errors import UsageError
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from tests.store.builders import DIM, asset, entry, spec, vector


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.ensure(spec())
    for number in range(5):
        tenant = "acme" if number % 2 else "other"
        written = entry(
            asset(tenant, f"k{number}", "media.text"),
            collection=Collection.TEXT,
            text=f"text {number}",
            attributes='{"price": 3}',
            passage=vector(1, number),
        )
        store.upsert(Collection.TEXT, [written])
    store.upsert(Collection.IMAGE, [entry(asset("acme", "photo"))])
    return store


def test_an_export_has_vectors_texts_and_attributes_and_names_their_encoders(
    store: MemoryStore, tmp_path: Path
) -> None:
    report = export(store, spec(), ExportFolder(str(tmp_path / "out")), part_bytes=1)
    assert (report.entries, report.files) == ({"text": 5, "image": 1}, 2)
    table = pq.read_table(tmp_path / "out" / "text")
    assert sorted(table.column("text").to_pylist()) == [f"text {number}" for number in range(5)]
    assert {json.loads(value)["price"] for value in table.column("attributes").to_pylist()} == {3}
    passages = np.array(table.column("passage").to_pylist(), dtype=np.float32)
    assert passages.shape == (5, DIM)
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1.0, rtol=1e-6)
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["vectors"]["text"]["joint"]["model"] == "clip-a"
    assert about["entries"] == {"text": 5, "image": 1}
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.parquet")}
    assert about["files"] == {"image/00000.parquet": 1, "text/00000.parquet": 5}
    assert written == set(about["files"])


def test_one_tenant_is_exported_without_vectors(store: MemoryStore, tmp_path: Path) -> None:
    folder = ExportFolder((tmp_path / "out").as_uri())
    report = export(store, spec(), folder, tenant="acme", with_vectors=False)
    assert report.entries == {"text": 2, "image": 1}
    table = pq.read_table(tmp_path / "out" / "text" / "00000.parquet")
    assert set(table.column("tenant").to_pylist()) == {"acme"}
    assert "passage" not in table.column_names


def test_an_export_is_not_written_over_another(store: MemoryStore, tmp_path: Path) -> None:
    export(store, spec(), ExportFolder(str(tmp_path)))
    with pytest.raises(UsageError, match="there are files at"):
        ExportFolder(str(tmp_path))


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_an_export_is_not_mixed_with_what_is_left_of_another_tenants(
    store: MemoryStore, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://{tmp_path}/out"
    interrupted = ExportFolder(url)
    interrupted.write("text/00003.parquet", b"of another tenant")
    with pytest.raises(UsageError, match="perhaps of an export that was interrupted"):
        ExportFolder(url)
    (tmp_path / "empty").mkdir()
    assert export(store, spec(), ExportFolder(f"file://{tmp_path}/empty"), tenant="acme").files == 2
