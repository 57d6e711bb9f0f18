from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.backup import BackupFolder, NewerBackupError
from penstock.backup.pruning import UNFINISHED_S, prune
from tests.backup.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.produce("k", b"1")
    world.ingest()
    return world


def refer(world: World, data: bytes) -> str:
    name = world.assets.put(data)
    world.put(replace(world.rows()[0], uri=f"asset:{name}"))
    return name


def age(folder: BackupFolder, name: str, at_s: float) -> None:
    assert folder.media.local_folder is not None
    os.utime(folder.media.local_folder / name[:2] / name, (at_s, at_s))


def test_old_backups_go_with_media_that_no_other_has(world: World) -> None:
    names = []
    for number in range(3):
        names.append(refer(world, b"version %d" % number))
        world.back_up()
        age(world.backups, names[-1], world.now_s - 2 * UNFINISHED_S)
    kept = world.backups.ids()[-2:]
    report = prune(world.backups, 2, now_s=world.now_s)
    assert (report.backups, report.unfinished, report.media) == (1, 0, 1)
    assert world.backups.ids() == kept
    assert sorted(stored.sha256 for stored in world.backups.media.list()) == sorted(names[1:])
    assert prune(world.backups, 2, now_s=world.now_s).backups == 0


def test_media_that_a_running_backup_may_have_copied_stay(world: World) -> None:
    first = refer(world, b"first")
    world.back_up()
    refer(world, b"second")
    world.back_up()
    age(world.backups, first, world.now_s - 60)
    assert prune(world.backups, 1, now_s=world.now_s).media == 0
    assert world.backups.media.exists(first)


def test_unfinished_backups_go_after_a_day(world: World) -> None:
    world.back_up()
    complete = world.backups.ids()
    world.backups.put_part("20000101T000000.000Z", "text/00000.parquet", b"data", 1)
    running = f"{complete[0][:-5]}.999Z"
    world.backups.put_part(running, "text/00000.parquet", b"data", 1)
    assert prune(world.backups, 5, now_s=world.now_s).unfinished == 1
    assert world.backups.folders() == sorted([*complete, running])


def test_no_media_go_while_a_backup_that_stays_does_not_name_its_own(world: World) -> None:
    first = refer(world, b"first")
    world.back_up()
    age(world.backups, first, world.now_s - 2 * UNFINISHED_S)
    refer(world, b"second")
    second = world.back_up().manifest
    refer(world, b"third")
    third = world.back_up().manifest
    (part,) = third.parts["media"]
    world.backups.put_part(third.id, part.path, b"damaged", 1)
    report = prune(world.backups, 1, now_s=world.now_s)
    assert (report.backups, report.media, report.damaged) == (1, 0, [third.id])
    assert world.backups.ids() == [second.id, third.id]
    assert world.backups.media.exists(first)
    world.backups.remove(third.id)
    world.backups.put_part("20000101T000000.000Z", "text/00000.parquet", b"unfinished", 1)
    assert prune(world.backups, 1, now_s=world.now_s).media == 2
    assert [stored.size for stored in world.backups.media.list()] == [len(b"second")]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema": 1}'])
def test_a_damaged_backup_is_not_one_of_those_that_stay(world: World, tmp_path: Path, damage: bytes) -> None:
    ids = [world.back_up().manifest.id for _ in range(4)]
    (tmp_path / "backups" / "backups" / ids[3] / "manifest.json").write_bytes(damage)
    report = prune(world.backups, 2, now_s=world.now_s)
    assert (report.backups, report.damaged) == (1, [ids[3]])
    assert world.backups.ids() == ids[1:]
    assert prune(world.backups, 3, now_s=world.now_s).backups == 0
    assert world.backups.ids() == ids[1:]


def test_nothing_is_removed_beside_a_backup_of_a_newer_schema(world: World, tmp_path: Path) -> None:
    ids = [world.back_up().manifest.id for _ in range(3)]
    newer = tmp_path / "backups" / "backups" / ids[2] / "manifest.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"schema": 3}))
    with pytest.raises(NewerBackupError):
        prune(world.backups, 2, now_s=world.now_s)
    assert world.backups.ids() == ids
