"""Backs up a simulated plane while it works, loses its index, restores it and catches up."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.assets.backup_note import read_backup_note
from penstock.backup import BackupFolder, DamagedBackupError, NewerBackupError, restore
from penstock.backup.restoring import ForeignTopicsError, IndexNotEmptyError
from penstock.broker.base import Message, Partition
from penstock.broker.group_offsets import ActiveGroupError
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.producer import MemoryProducer
from penstock.errors import PermanentError, UnavailableError
from penstock.records import AssetRow, Collection, Outcome, Position, part_id
from penstock.versions.switching import served_version
from tests.audit.simulated_plane import DEAD, GROUP, IMAGE, TEXT, asset, kinds
from tests.backup.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    for number in range(12):
        world.produce(f"k{number % 9}", b"%d" % (number % 4), topic=(TEXT, IMAGE)[number % 2], partition=number % 2)
    world.produce("deleted", b"2")
    world.produce("deleted", None)
    world.produce("broken", b"bad")
    world.ingest()
    return world


def caught_up(world: World) -> None:
    world.ingest()
    report = world.audit()
    assert kinds(report) == {}
    assert report.balanced


def test_a_restored_index_is_the_one_that_was_backed_up(world: World) -> None:
    before = world.index()
    report = world.back_up(page=2, part_bytes=1)
    counts = report.manifest.counts
    assert len(before[1]) == counts.assets
    assert {kind: len(entries) for kind, entries in before[0].items()} == counts.entries
    assert (counts.letters, counts.left_out, counts.damaged) == (1, 0, 0)
    assert len(report.manifest.parts["text"]) > 1

    world.lose_index()
    restored = world.restore()
    assert world.index() == before
    assert (restored.to_replay, restored.left_out, restored.letters, restored.lost) == (0, 0, 0, [])
    caught_up(world)


def test_what_came_after_the_backup_is_replayed(world: World) -> None:
    world.back_up()
    world.produce("k1", b"3")
    world.produce("k2", None)
    world.produce("later", b"1")
    world.ingest()
    after = world.index()
    world.lose_index()
    assert world.restore().to_replay == 3
    assert world.index() != after
    caught_up(world)
    assert world.index() == after


def test_events_that_are_settled_between_two_pages_are_replayed(world: World) -> None:
    rounds = iter(range(12))

    def during(stage: str) -> None:
        if (number := next(rounds, None)) is None:
            return
        world.produce(f"k{number % 9}", b"%d" % ((number + 1) % 4), topic=(TEXT, IMAGE)[number % 2])
        world.produce(f"new{number}", b"2")
        world.ingest()

    counts = world.back_up(page=2, part_bytes=1, during=during).manifest.counts
    assert next(rounds, None) is None
    assert counts.left_out > 0
    world.ingest()
    after = world.index()
    world.lose_index()
    world.restore()
    caught_up(world)
    assert world.index() == after


def test_a_half_written_asset_is_left_to_the_replay(world: World) -> None:
    """With parts missing between others, which a store that looks for parts by key would not find to delete."""
    world.produce("wide", b"9")
    world.ingest()

    def during(stage: str) -> None:
        if stage == "asset rows" and not events:
            event = world.event(world.produce("wide", b"3"))
            world.write_entries(event, 3)
            older = [part_id(event.asset.id, Collection.TEXT, part) for part in range(3, 9)]
            world.store.delete(Collection.TEXT, older[::2])
            events.append(event)

    events: list[object] = []
    assert world.back_up(during=during).manifest.counts.left_out == 1
    world.lose_index()
    assert world.restore().left_out == 1
    assert world.row(asset("wide")) is None
    assert [entry for entry in world.entries() if entry.asset.key == "wide"] == []
    caught_up(world)
    row = world.row(asset("wide"))
    assert row is not None
    assert row.counts == {Collection.TEXT: 3}


def test_an_asset_that_was_damaged_before_is_backed_up_as_it_is(world: World) -> None:
    world.produce("torn", b"3")
    world.ingest()
    taken = next(entry.id for entry in world.entries() if entry.asset.key == "torn")
    world.store.delete(Collection.TEXT, [taken])
    counts = world.back_up().manifest.counts
    assert (counts.damaged, counts.left_out) == (1, 0)
    world.lose_index()
    world.restore()
    assert kinds(world.audit()) == {"incomplete": 1}


def test_an_interrupted_restore_goes_on(world: World) -> None:
    world.back_up(part_bytes=1, page=2)
    before = world.index()
    world.lose_index()
    target = world.target()
    allowed = iter(range(3))

    def break_down() -> None:
        if next(allowed, None) is None:
            raise UnavailableError("the store is gone")

    world.store._before_write = break_down
    with pytest.raises(UnavailableError, match="the store is gone"):
        world.restore()
    assert world.index() != before
    world.store._before_write = lambda: None
    report = world.restore()
    assert report.continued
    assert world.index() == before
    assert target.assets.note("restore.json") is None
    with pytest.raises(IndexNotEmptyError, match=r"has \d+ rows already"):
        world.restore()


def test_a_version_beside_the_served_one_is_refused_before_anything_is_changed(world: World) -> None:
    """Nothing would ever serve it."""
    world.back_up()
    before, committed = dict(world.store._tables), world.broker.committed(GROUP)
    with pytest.raises(IndexNotEmptyError, match="version 1 of the index is served here, and a restored version 2"):
        world.restore(version=2)
    assert (world.store._tables, world.broker.committed(GROUP)) == (before, committed)
    assert world.assets.note("restore.json") is None
    world.lose_index()
    world.restore(version=2)
    assert served_version(world.store) == 2


def test_another_backup_does_not_continue_a_restore(world: World) -> None:
    first = world.back_up().manifest
    second = world.back_up().manifest
    world.lose_index()
    world.restore(first)
    world.assets.put_note("restore.json", json.dumps({"backup": first.id}).encode())
    with pytest.raises(IndexNotEmptyError):
        world.restore(second)
    assert world.restore(first).continued


def test_a_living_ingest_plane_is_refused_before_anything_is_changed(world: World) -> None:
    world.back_up()
    world.lose_index()
    member = world.broker.consumer(GROUP, [TEXT], drain_timeout_s=1.0)
    member.poll(0.0, 1)
    committed = world.broker.committed(GROUP)
    with pytest.raises(ActiveGroupError, match="an ingest plane reads for group group: stop it"):
        world.restore()
    assert world.broker.committed(GROUP) == committed
    assert world.store._tables == {}
    member.close(1.0)
    world.restore()
    caught_up(world)


def test_an_ingest_plane_that_starts_during_a_restore_is_noticed(world: World) -> None:
    world.back_up()
    world.lose_index()
    world.store._before_write = lambda: world.commit(Partition(TEXT, 0), 1)
    with pytest.raises(PermanentError, match="an ingest plane ran during the restore"):
        world.restore()


def test_topics_that_were_created_again_are_refused(world: World) -> None:
    world.back_up()
    world.lose_index()
    world.broker.truncate_to(Partition(TEXT, 0), 1)
    with pytest.raises(ForeignTopicsError, match=r"media\.text\[0\] ends at 1, .* made at its offset \d"):
        world.restore()
    world.broker = MemoryBroker()
    with pytest.raises(ForeignTopicsError, match=r"media\.image\[1\] does not exist"):
        world.restore()
    assert world.restore(with_kafka=False).assets == len(world.rows()) > 0


def test_events_that_retention_removed_since_are_named(world: World) -> None:
    world.back_up()
    end = world.produce("k1", b"1", partition=1)
    world.ingest()
    world.broker.expire(Partition(TEXT, 1), end.offset + 1)
    world.lose_index()
    lost = world.restore().lost
    assert [str(gap) for gap in lost] == [f"media.text[1] offsets {end.offset} to {end.offset}"]


def test_dead_letters_are_written_where_their_topic_lost_them(world: World) -> None:
    world.produce("broken too", b"bad", partition=1)
    world.ingest()
    letters = world.broker.records(DEAD)
    world.back_up()
    world.lose_index()
    for partition in world.broker.partitions(DEAD):
        world.broker.truncate_to(partition, 0)
    assert world.restore().letters == 2
    again = world.broker.records(DEAD)
    assert [(letter.key, letter.value, letter.headers, letter.timestamp_ms) for letter in again] == [
        (letter.key, letter.value, letter.headers, letter.timestamp_ms) for letter in letters
    ]
    caught_up(world)


def test_dead_letters_are_written_once_by_a_restore_that_is_run_again(world: World) -> None:
    """With offsets that begin above 0, so that those which the first run writes do not reach them."""
    for partition in world.broker.partitions(DEAD):
        world.broker.expire(partition, world.broker.log_range(partition).end)
    for number in range(6):
        world.produce(f"broken {number}", b"bad")
    world.ingest()
    lost = world.broker.records(DEAD)
    assert len(lost) == 6
    world.back_up()
    world.lose_index()
    for partition in world.broker.partitions(DEAD):
        world.broker.truncate_to(partition, 0)

    class Interrupted(MemoryProducer):
        """Ends after four letters."""

        def send(self, message: Message) -> Future[Position]:
            if len(world.broker.records(DEAD)) == 4:
                raise UnavailableError("the broker is gone")
            return super().send(message)

    target = world.target()
    assert target.kafka is not None
    interrupted = replace(target, kafka=replace(target.kafka, producer=Interrupted(world.broker)))
    with pytest.raises(UnavailableError, match="the broker is gone"):
        restore(world.backups, world.backups.manifest(), interrupted)
    assert world.restore().letters == 2
    world.lose_index()
    assert world.restore().letters == 0  # a second restore of the same letters
    assert [letter.key for letter in world.broker.records(DEAD)] == [letter.key for letter in lost]


def test_dead_letters_that_were_purged_since_do_not_come_back(world: World) -> None:
    world.back_up()
    for partition in world.broker.partitions(DEAD):
        world.broker.expire(partition, world.broker.log_range(partition).end)
    world.lose_index()
    assert world.restore().letters == 0
    assert world.broker.records(DEAD) == []


def test_media_of_rows_and_letters_come_back_by_their_hash(world: World) -> None:
    kept, other = world.assets.put(b"kept"), world.assets.put(b"no row refers to it")
    row = world.rows()[0]
    world.put(replace(row, uri=f"asset:{kept}"))
    assert world.back_up().media.copied == 1
    again = world.back_up()
    assert (again.media.copied, again.media.present, again.manifest.counts.media) == (0, 1, 1)
    for name in (kept, other):
        world.assets.delete(name)
    world.lose_index()
    report = world.restore()
    assert (report.media.copied, world.assets.read(kept)) == (1, b"kept")
    assert not world.assets.exists(other)


@pytest.mark.parametrize("kind", ["assets", "text", "image", "letters"])
def test_a_damaged_part_is_named_before_anything_is_changed(world: World, tmp_path: Path, kind: str) -> None:
    manifest = world.back_up().manifest
    (part,) = manifest.parts[kind]
    file = tmp_path / "backups" / "backups" / manifest.id / part.path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    committed = world.broker.committed(GROUP)
    world.produce("k1")
    world.ingest()
    world.lose_index()
    with pytest.raises(DamagedBackupError, match=part.path):
        world.restore()
    assert world.broker.committed(GROUP) != committed
    assert world.store._tables == {}
    assert world.assets.note("restore.json") is None


def test_a_newer_backup_is_refused_by_name(world: World, tmp_path: Path) -> None:
    manifest = world.back_up().manifest
    file = tmp_path / "backups" / "backups" / manifest.id / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 3, "penstock": "7.0"}))
    with pytest.raises(NewerBackupError, match=rf"backup {manifest.id} has schema 3, made by Penstock 7\.0"):
        BackupFolder((tmp_path / "backups").as_uri()).manifest()


def test_an_aborted_backup_is_none(world: World) -> None:
    def fail(stage: str) -> None:
        if stage.startswith("entries"):
            raise UnavailableError("the place is full")

    with pytest.raises(UnavailableError):
        world.back_up(during=fail)
    assert world.backups.ids() == []
    assert read_backup_note(world.assets) is None
    began_ms = round((world.now_s + 60.0) * 1000)
    assert world.back_up().manifest.id == world.backups.ids()[0]
    note = read_backup_note(world.assets)
    assert note is not None
    assert (note.began_ms, note.index_version) == (began_ms, 1)


def test_offsets_are_read_before_anything_else(world: World) -> None:
    """An event that is settled after the offsets were read may be in the backup, but never only below them."""
    first_stage: list[str] = []

    def during(stage: str) -> None:
        if not first_stage:
            first_stage.append(stage)
            world.produce("early", b"1")
            world.ingest()

    manifest = world.back_up(during=during).manifest
    offset = next(offset for offset in manifest.offsets if offset.key == Partition(TEXT, 0))
    assert offset.offset is not None
    assert world.broker.committed(GROUP)[Partition(TEXT, 0)] == offset.offset + 1


def test_a_partition_without_a_committed_offset_is_replayed_whole(world: World) -> None:
    del world.broker.group(GROUP).committed[Partition(IMAGE, 1)]
    world.back_up()
    world.commit(Partition(IMAGE, 1), world.broker.log_range(Partition(IMAGE, 1)).end)
    world.lose_index()
    world.restore()
    assert world.broker.committed(GROUP)[Partition(IMAGE, 1)] == 0
    caught_up(world)


def test_rows_that_expired_stay_expired(world: World) -> None:
    row = world.row(asset("deleted"))
    assert row is not None
    world.put(AssetRow(row.asset, row.version, Outcome.EXPIRED, {}, "", 0))
    world.back_up()
    world.lose_index()
    world.restore()
    back = world.row(asset("deleted"))
    assert back is not None
    assert back.outcome is Outcome.EXPIRED


def test_a_message_of_the_log_is_not_needed_for_what_was_settled(world: World) -> None:
    """Compaction or retention may have removed every record below the offsets."""
    before = world.index()
    world.back_up()
    for topic in (TEXT, IMAGE):
        for partition in world.broker.partitions(topic):
            world.broker.expire(partition, world.broker.log_range(partition).end)
    world.lose_index()
    assert world.restore().lost == []
    assert world.index() == before
    world.broker.append(Message(TEXT, b"k1", b"1", partition=0))
    world.ingest()
