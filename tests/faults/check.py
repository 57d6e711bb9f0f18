"""Whether the store holds what a stream sent: nothing missing, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from penstock.audit import run_audit
from penstock.broker.deadletters import scan_dead_letters
from penstock.records import Collection, Entry, Outcome
from penstock.samples.timed_media import SampleTimedMedia
from penstock.store.milvus.store import MilvusStore
from tests.faults.stream import Sent, Stream
from tests.store.scans import all_entries

_NEAR_S = 0.7  # by which a detector, a codec or a cut between two frames may be off


def check(stream: Stream) -> None:
    """Checks that nothing is missing and nothing twice: by the audit, and by what the stream sent.

    1. the audit balances, over as many events as were acknowledged, none in flight
    2. exactly the bad ones are dead letters; one that a newer good event of its asset overtook may be
    3. every asset's row belongs to its newest good event, and its entries hold that event's content
    """
    settings = stream.settings
    report = run_audit(settings)
    assert report.balanced, report
    assert (report.produced, report.in_flight) == (stream.produced, 0), report
    newest = stream.newest()
    overtaken = {
        position
        for position, asset in stream.bad.items()
        if asset.id in newest and newest[asset.id].position.offset > position.offset
    }
    dead = {letter.origin: letter.detail for letter in scan_dead_letters(settings.kafka)}
    unexpected = {position: detail for position, detail in dead.items() if position not in stream.bad}
    assert not unexpected, unexpected
    assert not stream.bad.keys() - overtaken - dead.keys()
    store = MilvusStore(settings.store)
    try:
        rows = dict(_batched(store.asset_rows, list(newest)))
        assert {id_: row.origin for id_, row in rows.items()} == {id_: sent.position for id_, sent in newest.items()}
        entries = _entries(store, set(newest))
    finally:
        store.close()
    for asset_id, sent in newest.items():
        assert rows[asset_id].outcome is (Outcome.DELETED if sent.deletes else Outcome.INDEXED), sent
        _check_text(sent, entries.get(asset_id, []))
        if sent.recording is not None:
            _check_recording(sent.recording, entries.get(asset_id, []))


def _entries(store: MilvusStore, asset_ids: set[str]) -> dict[str, list[Entry]]:
    """Returns the entries of each asset, in order."""
    by_asset: dict[str, list[Entry]] = {}
    for collection in Collection:
        for entry in all_entries(store, collection):
            if entry.asset.id in asset_ids:
                by_asset.setdefault(entry.asset.id, []).append(entry)
    for entries in by_asset.values():
        entries.sort(key=lambda entry: entry.part)
    return by_asset


def _check_text(sent: Sent, entries: Sequence[Entry]) -> None:
    assert " ".join(entry.text for entry in entries if entry.collection is Collection.TEXT) == sent.text, sent


def _check_recording(recording: SampleTimedMedia, entries: Sequence[Entry]) -> None:
    """Checks that every sentence and every scene is there, and no moment twice."""
    for collection, happenings in (
        (Collection.SPEECH, recording.sentences),
        (Collection.FRAME, recording.scenes),
    ):
        spans = [(entry.start_ms / 1000, entry.end_ms / 1000) for entry in entries if entry.collection is collection]
        for (_, end_s), (start_s, _) in pairwise(spans):
            assert start_s > end_s - _NEAR_S, (recording.key, spans)
        for happening in happenings:
            inside = [min(end_s, happening.end_s) - max(start_s, happening.start_s) for start_s, end_s in spans]
            missed_s = happening.end_s - happening.start_s - sum(seconds for seconds in inside if seconds > 0)
            assert missed_s < _NEAR_S, (recording.key, happening, spans)


def _batched(read: Callable[[Sequence[str]], Any], ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(ids), 1_000):
        yield from read(ids[start : start + 1_000]).items()
