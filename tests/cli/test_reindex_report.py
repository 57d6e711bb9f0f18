"""Tests what `penstock reindex compare` leaves open; its figures are tested with the switch, on a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.assembly import open_assets
from penstock.cli.reindex_report import compare_versions
from penstock.config import load_settings
from penstock.errors import UnavailableError
from penstock.processes import free_port
from penstock.store.milvus.store import MilvusStore
from penstock.versions import Reindex


def test_a_store_that_fails_while_a_version_is_opened_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    close = MilvusStore.close

    def record(store: MilvusStore) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(MilvusStore, "close", record)
    settings = load_settings(
        data_dir=tmp_path, profile="null:8", store={"uri": f"http://127.0.0.1:{free_port()}", "timeout_s": 1.0}
    )
    reindex = Reindex(1, 2, "null:9", "penstock.v2", 1)
    with pytest.raises(UnavailableError):
        compare_versions(settings, open_assets(settings), reindex, (), tenant="default", questions=1, split="test")
    assert len(closed) == 1
