from __future__ import annotations

from pathlib import Path

from penstock.assets import AssetStore, SweepLimits, asset_uri, sweep
from penstock.broker.base import DeadLetter
from penstock.errors import Reason
from penstock.ingest.asset_gc import referenced_media
from penstock.records import AssetRow, Collection, Outcome, Position, Version
from tests.ingest.builders import event
from tests.ingest.doubles import memory_store

HOUR_S = 3_600.0
LIMITS = SweepLimits(HOUR_S)


def row(key: str, uri: str) -> AssetRow:
    return AssetRow(event(0, key).asset, Version(0, 0, 0), Outcome.INDEXED, {Collection.TEXT: 1}, uri, 0)


def letter(stashed_uri: str | None) -> DeadLetter:
    nowhere = Position("media.dlq", 0, 0)
    return DeadLetter(nowhere, nowhere, Reason.TOO_LARGE, "decode", "", 0, 0, None, (), None, 0, stashed_uri)


def test_a_sweep_keeps_what_rows_and_dead_letters_refer_to_and_removes_the_rest(tmp_path: Path) -> None:
    assets = AssetStore(tmp_path.as_uri())
    shown, stashed, forgotten = (assets.put(data) for data in (b"shown", b"stashed", b"forgotten"))
    store = memory_store()
    store.put_asset_rows([row("a", asset_uri(shown)), row("b", "https://example.org/elsewhere"), row("c", "")])
    referred = referenced_media([store], [letter(asset_uri(stashed)), letter(None)])
    newest_s = max(asset.modified_s for asset in assets.list())
    report = sweep(assets, referred, LIMITS, owner="test", now_s=newest_s + 2 * HOUR_S)
    assert report.removed == 1
    assert [assets.exists(sha256) for sha256 in (shown, stashed, forgotten)] == [True, True, False]


def test_a_sweep_leaves_young_media_that_no_row_refers_to_yet(tmp_path: Path) -> None:
    assets = AssetStore(tmp_path.as_uri())
    under_way = assets.put(b"fetched, not written yet")
    newest_s = max(asset.modified_s for asset in assets.list())
    sweep(assets, referenced_media([memory_store()], []), LIMITS, owner="test", now_s=newest_s + 60)
    assert assets.exists(under_way)
