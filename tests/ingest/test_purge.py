"""Erasure of a tenant or of a key, through a lane over a broker and a store in memory: nothing is left, the audit
balances, other tenants keep what is theirs, and a purge that ended anywhere is continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.assets import AssetStore, asset_uri
from penstock.audit.audit import audit
from penstock.audit.report import AuditReport
from penstock.audit.scan import AuditScope
from penstock.broker.base import DeadLetter, Message, Partition
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.letter_purge import LetterPurger
from penstock.broker.memory.reader import MemoryReader
from penstock.broker.watch_messages import deletion_message, read_watches, watch_message
from penstock.errors import UnavailableError
from penstock.ingest.deadletters.resolution import ResolutionStatus
from penstock.ingest.purge import Purger, PurgeReceipt, PurgeRequest
from penstock.records import ClaimCheck, Collection, Event, Inline, Modality, Watch
from tests.ingest.builders import TOPIC
from tests.ingest.deadletters.test_replay import DLQ, Plant
from tests.ingest.doubles import ScriptedMedia
from tests.ingest.lane.harness import GROUP, parse, running
from tests.replays import KEYS
from tests.store.scans import all_asset_rows, all_entries

WATCHES = "penstock.watches"


class StoringMedia(ScriptedMedia):
    """Puts inline media into an asset store, as the real worker does."""

    def __init__(self, assets: AssetStore) -> None:
        self._assets = assets

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        decoded, batch = super().fetch_and_decode(events, roles)
        data = {event.position: event.payload.data for event in events if isinstance(event.payload, Inline)}
        stored = [
            replace(event, payload=ClaimCheck(asset_uri(self._assets.put(data[event.position]))))
            for event in decoded.indexable
        ]
        return replace(decoded, indexable=tuple(stored)), batch


class EndedError(Exception):
    """The purge ended here, as by a crash."""


class ErasablePlant(Plant):
    """A plant with an asset store, watches, and what erases."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.assets = AssetStore(folder.as_uri())
        self.media = StoringMedia(self.assets)  # type: ignore[assignment]
        self.sink = DeadLetterWriter(  # type: ignore[assignment]
            self.broker.producer(), DLQ, offload=self.put, now=self.now, replays=KEYS
        )
        self.broker.create_topic(WATCHES, 1)
        self.reader = MemoryReader(self.broker, GROUP)

    def put(self, data: bytes) -> str:
        return asset_uri(self.assets.put(data))

    def send(self, tenant: str | None, key: str | None, value: bytes, **headers: str) -> None:
        named = {"ce_tenant": tenant} if tenant is not None else {}
        envelope = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "test", "ce_type": "t", **named, **headers}
        written = tuple((name, text.encode()) for name, text in envelope.items())
        self.broker.append(Message(TOPIC, None if key is None else key.encode(), value, written))

    def watch(self, tenant: str, name: str) -> None:
        watch = Watch(name, name, tenant, 0.5, 1, {"text": "x"})
        self.broker.append(watch_message(WATCHES, watch))

    def purger(self, *, remove_before: Callable[[Mapping[Partition, int]], None] | None = None) -> Purger:
        producer = self.broker.producer()
        return Purger(
            store=self.store,
            assets=self.assets,
            resolver=self.judge(),
            letters=LetterPurger(self.reader, producer, remove_before or self.remove_before, DLQ),
            read_letters=self.read,
            read_watches=lambda: read_watches(self.reader, WATCHES),
            delete_watch=lambda watch: deletion_message(WATCHES, watch.id),
            producer=producer,
            lag=self.lag,
            show=lambda _activity, _done, _total: None,
            clock=time.monotonic,
            now_s=time.time,
            sleep=lambda _: time.sleep(0.005),
        )

    def purge(self, tenant: str = "acme", **request: Any) -> PurgeReceipt:
        return self.purger().purge(PurgeRequest(tenant, **{"wait_s": 20.0, **request}))

    def remove_before(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            self.broker.expire(partition, offset)

    def audit(self) -> AuditReport:
        def parsed(record: Any) -> Any:
            return parse(record, Modality.TEXT)

        return audit(self.reader, self.store, AuditScope({TOPIC: Modality.TEXT}, DLQ, parsed, KEYS))

    def owners(self) -> dict[tuple[str, str], int]:
        """Returns the number of entries by tenant and key."""
        counts: dict[tuple[str, str], int] = {}
        for entry in all_entries(self.store, Collection.TEXT):
            name = (entry.asset.tenant, entry.asset.key)
            counts[name] = counts.get(name, 0) + 1
        return counts

    def stored(self) -> set[bytes]:
        return {self.assets.read(stored.sha256) for stored in self.assets.list()}


@pytest.fixture
def plant(tmp_path: Path) -> ErasablePlant:
    plant = ErasablePlant(tmp_path / "assets")
    plant.send("acme", "a", b"parts:3")
    plant.send("acme", "b", b"shared")
    plant.send("acme", "bad", b"bad")
    plant.send("other", "a", b"shared")
    plant.send("other", "c", b"theirs")
    plant.send("other", "bad", b"bad")
    plant.watch("acme", "w1")
    plant.watch("other", "w2")
    return plant


def test_a_tenant_is_erased_and_others_keep_what_is_theirs(plant: ErasablePlant) -> None:
    with running(plant.started()):
        plant.settled()
        receipt = plant.purge()
    assert (receipt.assets, receipt.entries, receipt.dead_letters, receipt.watches) == (2, 4, 1, 1)
    assert (receipt.media.removed, receipt.media.shared, receipt.left, receipt.is_complete) == (1, 1, 0, True)
    assert plant.owners() == {("other", "a"): 1, ("other", "c"): 1}
    assert plant.stored() == {b"shared", b"theirs"}
    assert [watch.tenant for watch in read_watches(plant.reader, WATCHES)] == ["other"]
    letters = list(plant.read())
    assert sorted((letter.purged, letter.key, letter.value) for letter in letters) == [
        (False, b"bad", b"bad"),
        (True, None, None),
    ]
    assert not any(
        b"acme" in part
        for record in plant.broker.records(DLQ)
        for part in (record.key or b"", record.value or b"", *(value for _, value in record.headers))
    )


def test_the_audit_balances_before_and_after_a_purge(plant: ErasablePlant) -> None:
    plant.send("acme", None, b"unparsable", ce_attributes="[]")
    with running(plant.started()):
        plant.settled()
        before = plant.audit()
        plant.purge()
        after = plant.audit()
    assert (before.balanced, after.balanced) == (True, True)
    assert after.problems == ()


def test_one_key_is_erased_in_all_its_versions_and_letters(plant: ErasablePlant) -> None:
    plant.send("acme", "a", b"bad")
    with running(plant.started()):
        plant.settled()
        receipt = plant.purge(key="a")
    assert (receipt.assets, receipt.entries, receipt.dead_letters, receipt.watches) == (1, 3, 1, 0)
    assert plant.owners() == {("acme", "b"): 1, ("other", "a"): 1, ("other", "c"): 1}
    assert [letter.key for letter in plant.read() if not letter.purged] == [b"bad", b"bad"]
    assert len(read_watches(plant.reader, WATCHES)) == 2
    assert plant.audit().balanced


def test_a_second_purge_changes_nothing(plant: ErasablePlant) -> None:
    with running(plant.started()):
        plant.settled()
        plant.purge()
        before = [plant.broker.log_range(partition) for partition in plant.broker.partitions(TOPIC)]
        letters = [record.position for record in plant.broker.records(DLQ)]
        receipt = plant.purge()
        after = [plant.broker.log_range(partition) for partition in plant.broker.partitions(TOPIC)]
    assert (receipt.assets, receipt.entries, receipt.dead_letters, receipt.watches) == (0, 0, 0, 0)
    assert receipt.media.removed == 0
    assert before == after
    assert letters == [record.position for record in plant.broker.records(DLQ)]


def test_a_dry_run_counts_the_same_and_changes_nothing(plant: ErasablePlant) -> None:
    with running(plant.started()):
        plant.settled()
        media, rows = plant.stored(), all_asset_rows(plant.store)
        receipt = plant.purge(dry_run=True)
        assert (receipt.assets, receipt.entries, receipt.dead_letters, receipt.watches) == (2, 4, 1, 1)
        assert (plant.stored(), all_asset_rows(plant.store)) == (media, rows)
        assert not any(letter.purged for letter in plant.read())


def test_a_purge_that_ended_before_the_letters_were_removed_is_continued(plant: ErasablePlant) -> None:
    """The rows are gone then, and only the note names their media."""

    def ends(_: Mapping[Partition, int]) -> None:
        raise EndedError

    with running(plant.started()):
        plant.settled()
        with pytest.raises(EndedError):
            plant.purger(remove_before=ends).purge(PurgeRequest("acme", wait_s=20.0))
        assert b"parts:3" in plant.stored()
        receipt = plant.purge()
    assert (receipt.assets, receipt.dead_letters, receipt.media.removed, receipt.is_complete) == (0, 1, 1, True)
    assert plant.stored() == {b"shared", b"theirs"}
    report = plant.audit()
    assert report.balanced
    assert report.exclusions.repeated_dead_letters >= 1
    assert not list(Path(plant.assets.local_folder or "").glob("purge-*"))


def test_without_an_ingest_plane_nothing_is_erased_and_the_error_says_so(plant: ErasablePlant) -> None:
    with pytest.raises(UnavailableError, match=r"media\.text.*of other tenants.*quota.*Run the same purge"):
        plant.purge(wait_s=0.05)
    assert not list(Path(plant.assets.local_folder or "").glob("purge-*"))


def test_media_that_were_put_again_meanwhile_stay_for_the_sweep(plant: ErasablePlant) -> None:
    with running(plant.started()):
        plant.settled()
        purger = plant.purger()
        late = Purger.__dict__["_delete"]

        def delete(request: PurgeRequest) -> None:
            late(purger, request)
            plant.assets.put(b"parts:3")  # of an event in flight, whose row is still to be written

        purger._delete = delete  # type: ignore[method-assign]
        receipt = purger.purge(PurgeRequest("acme", wait_s=20.0))
    assert (receipt.media.young, receipt.is_complete) == (1, False)
    assert b"parts:3" in plant.stored()


def test_letters_that_name_no_tenant_stay_unless_they_are_requested(plant: ErasablePlant) -> None:
    plant.send(None, "odd", b"x", ce_attributes="[]")
    with running(plant.started()):
        plant.settled()
        assert plant.purge().unnamed == 1
        assert b"odd" in [letter.key for letter in plant.read()]
        assert plant.purge(unnamed=True).dead_letters == 1
        assert b"odd" not in [letter.key for letter in plant.read()]


def test_a_purged_letter_is_resolved_and_never_replayed(plant: ErasablePlant) -> None:
    with running(plant.started()):
        plant.settled()
        plant.purge()
        resolutions = plant.replay(dry_run=True)
    by_status = {resolution.status for resolution in resolutions}
    assert by_status == {ResolutionStatus.PURGED, ResolutionStatus.OPEN}
    purged: DeadLetter = next(letter for letter in plant.read() if letter.purged)
    assert purged.detail == ""
