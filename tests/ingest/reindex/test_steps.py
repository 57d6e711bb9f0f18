"""A re-index begins, is continued, is refused where it cannot work, and ends from wherever it was interrupted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.encoders.base import Fingerprint, Space
from penstock.errors import ConfigError, UnavailableError, UsageError
from penstock.ingest.reindex.drop_watch import DropWatch
from penstock.ingest.reindex.dropping import drop_version, owner_name
from penstock.ingest.reindex.starting import begin_reindex, check_differs
from penstock.records import Collection, Field
from penstock.store.base import VectorSpec
from penstock.store.names import ASSET, PhysicalCollection
from penstock.store.provenance import EncoderInfo
from penstock.versions import (
    KeptIndex,
    Phase,
    Progress,
    read_kept_index,
    read_progress,
    read_reindex,
    with_kept_index,
    write_kept_index,
    write_progress,
    write_reindex,
)
from penstock.versions.replicas import ReplicaReport, write_report
from penstock.versions.switching import NOTE as SWITCH_NOTE
from tests.ingest.doubles import SPEC


class Shelf:
    """Physical collections in memory, that may fail at a removal."""

    def __init__(self, *versions: int, served: int | None = 1) -> None:
        self.names = {PhysicalCollection(ASSET, version) for version in versions}
        self.names |= {PhysicalCollection("text", version, "model") for version in versions}
        self.served_version = served
        self.fails_at: int | None = None
        self.removals = 0

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        return sorted(name for name in self.names if name.alias == alias)

    def served(self, alias: str) -> PhysicalCollection | None:
        return next((name for name in self.candidates(alias) if name.version == self.served_version), None)

    def remove(self, physical: PhysicalCollection) -> None:
        assert physical.version != self.served_version
        if self.removals == self.fails_at:
            self.fails_at = None
            raise UnavailableError("gone")
        self.removals += 1
        self.names.discard(physical)


@pytest.fixture
def notes() -> AssetStore:
    return AssetStore(f"memory://reindex-{uuid.uuid4().hex}")


SETTINGS = Settings(profile="reference")


def begin(
    notes: AssetStore,
    shelf: Shelf,
    profile: str | None = "reference",
    *,
    again: bool = False,
    now_ms: int = 5,
    **changes: Any,
) -> Any:
    settings = SETTINGS.model_copy(update=changes)
    return begin_reindex(settings, notes, shelf, profile=profile, again=again, now_ms=now_ms)


NOW_MS = 1_800_000_000_000


def drop(notes: AssetStore, shelf: Shelf, *, members: Any = lambda _: 0, wait_s: float = 0.0) -> tuple[int, int]:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    return drop_version(
        notes,
        shelf,
        owner_of=lambda version: owner_name("default", version),
        group_of=lambda reindex, version: reindex.group if version == reindex.to_version else "penstock",
        members=members,
        sleep=sleep,
        clock=lambda: now_s[0],
        wall_ms=lambda: NOW_MS,
        wait_s=wait_s,
    )


# --- begin -----------------------------------------------------------------------------------------------------------


def test_a_reindex_takes_a_version_that_nothing_has_and_a_group_of_its_own(notes: AssetStore) -> None:
    reindex, begins = begin(notes, Shelf(1, 3))
    assert begins
    assert (reindex.from_version, reindex.to_version, reindex.group) == (1, 4, f"{SETTINGS.kafka.group}.v4.5")
    assert reindex.settings["store"] == {"version": 4}
    assert read_reindex(notes) == reindex


def test_the_group_of_a_later_reindex_does_not_grow(notes: AssetStore) -> None:
    store = SETTINGS.store.model_copy(update={"version": 2})
    for group in ("penstock.v2", "penstock.v2.1764543600000"):
        kafka = SETTINGS.kafka.model_copy(update={"group": group})
        reindex, _ = begin(notes, Shelf(2, served=2), again=True, store=store, kafka=kafka)
        assert reindex.group == "penstock.v3.5"
        drop(notes, Shelf(2, 3, served=2))


def test_a_version_that_is_begun_again_reads_the_topics_from_their_start(notes: AssetStore) -> None:
    """The number of a dropped version is used again; its group would stand at the end of the topics."""
    first, _ = begin(notes, Shelf(1))
    drop(notes, Shelf(1, 2))
    second, _ = begin(notes, Shelf(1), again=True, now_ms=6)
    assert second.to_version == first.to_version == 2
    assert second.group != first.group
    assert second.settings["kafka"] == {"group": second.group}


def test_a_reindex_that_is_under_way_is_continued(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    assert begin(notes, Shelf(1, 2), None) == (reindex, False)
    assert begin(notes, Shelf(1, 2), "reference") == (reindex, False)


@pytest.mark.parametrize(
    ("shelf", "profile", "message"),
    [
        (Shelf(served=None), "reference", "no index"),
        (Shelf(1, 2, served=2), "reference", "version 2 of the index is served"),
        (Shelf(1), None, "--profile"),
    ],
)
def test_what_cannot_work_is_refused(notes: AssetStore, shelf: Shelf, profile: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begin(notes, shelf, profile)
    assert read_reindex(notes) is None


@pytest.mark.parametrize("served", [1, 2])
def test_a_reindex_that_ended_does_not_begin_again_unasked(notes: AssetStore, served: int) -> None:
    """A supervisor starts the command again, with the settings of the version that stayed."""
    begin(notes, Shelf(1), "null:2")
    drop(notes, Shelf(1, 2, served=served))
    left = Shelf(served, served=served)
    store = with_kept_index(SETTINGS, notes).store
    with pytest.raises(ConfigError, match=f"ended at 2027-01-15 .* version {3 - served} .* Add --again"):
        begin(notes, left, "null:2", store=store)
    assert read_reindex(notes) is None
    assert begin(notes, left, "null:3", store=store)[1]
    drop(notes, Shelf(served, served + 1, served=served))
    assert begin(notes, left, "null:2", store=store)[1]  # those of the one before the last


def test_a_reindex_that_ended_begins_again_when_asked(notes: AssetStore) -> None:
    begin(notes, Shelf(1), "null:2")
    drop(notes, Shelf(1, 2))
    reindex, begins = begin(notes, Shelf(1), "null:2", again=True)
    assert begins
    assert begin(notes, Shelf(1, 2), "null:2") == (reindex, False)


def test_a_damaged_note_of_an_end_is_refused_by_name(notes: AssetStore) -> None:
    for damage in (b"{", b"[]", b'{"schema": 9}', b'{"schema": 1, "surprise": 1}'):
        notes.put_note("reindex-ended.json", damage)
        with pytest.raises(ConfigError, match=r"reindex-ended\.json"):
            begin(notes, Shelf(1))


def test_another_reindex_beside_one_that_is_under_way_is_refused(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_reindex(notes, replace(reindex, profile="another"))
    with pytest.raises(ConfigError, match="is under way"):
        begin(notes, Shelf(1, 2), "reference")
    write_reindex(notes, replace(reindex, phase=Phase.DROPPED, dropping=2))
    with pytest.raises(ConfigError, match="reindex drop"):
        begin(notes, Shelf(1, 2), None)


def test_the_same_encoders_are_refused_and_others_are_not() -> None:
    present = {
        collection: {field: EncoderInfo.from_spec(vector) for field, vector in fields.items()}
        for collection, fields in SPEC.vectors.items()
    }
    with pytest.raises(ConfigError, match="every vector would be the same"):
        check_differs(SPEC, present)
    other = VectorSpec(Space("test", 4), Fingerprint("test", "1" * 16, "0" * 16))
    check_differs(replace(SPEC, vectors={Collection.TEXT: {Field.PASSAGE: other}}), present)
    check_differs(SPEC, {})


# --- drop ------------------------------------------------------------------------------------------------------------


def test_before_a_switch_the_new_version_is_dropped_and_the_settings_stay(notes: AssetStore) -> None:
    begin(notes, Shelf(1))
    shelf = Shelf(1, 2)
    assert drop(notes, shelf) == (2, 1)
    assert {name.version for name in shelf.names} == {1}
    assert (read_reindex(notes), read_kept_index(notes)) == (None, None)


def test_after_a_switch_the_old_version_is_dropped_and_planes_take_the_settings_of_the_new_one(
    notes: AssetStore,
) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_progress(notes, Progress(1, 1, 0, 0.0, 1))
    notes.set_owner(owner_name("default", 1))
    shelf = Shelf(1, 2, served=2)
    assert drop(notes, shelf) == (1, 2)
    assert {name.version for name in shelf.names} == {2}
    assert (read_reindex(notes), read_progress(notes)) == (None, None)
    assert notes.owner() == owner_name("default", 2)
    taken = with_kept_index(SETTINGS, notes)
    assert (taken.store.version, taken.kafka.group) == (2, reindex.group)
    assert with_kept_index(taken, notes) == taken


@pytest.mark.parametrize("served", [1, 2])
@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_drop_that_was_interrupted_is_continued(notes: AssetStore, served: int, fails_at: int) -> None:
    begin(notes, Shelf(1))
    shelf = Shelf(1, 2, served=served)
    shelf.fails_at = fails_at
    with pytest.raises(UnavailableError):
        drop(notes, shelf)
    reindex = read_reindex(notes)
    assert reindex is not None
    assert (reindex.phase, reindex.dropping) == (Phase.DROPPED, 3 - served)
    assert drop(notes, shelf) == (3 - served, served)
    assert {name.version for name in shelf.names} == {served}
    assert read_reindex(notes) is None


def test_a_version_that_is_still_fed_is_not_removed(notes: AssetStore) -> None:
    begin(notes, Shelf(1))
    shelf = Shelf(1, 2)
    requested = []

    def members(group: str) -> int:
        requested.append(group)
        return 1

    with pytest.raises(UnavailableError, match=r"group penstock\.v2\.5"):
        drop(notes, shelf, members=members, wait_s=3.0)
    assert set(requested) == {"penstock.v2.5"}
    assert {name.version for name in shelf.names} == {1, 2}


def test_a_repetition_removes_what_was_noted_and_never_what_is_served(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_reindex(notes, replace(reindex, phase=Phase.DROPPED, dropping=2))
    shelf = Shelf(1, 2, served=2)  # by a switch that read the record before
    with pytest.raises(ConfigError, match="version 2 of the index is served"):
        drop(notes, shelf)
    assert {name.version for name in shelf.names} == {1, 2}
    shelf.served_version = 1
    assert drop(notes, shelf) == (2, 1)


def test_nothing_is_removed_while_a_switch_is_under_way(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_reindex(notes, replace(reindex, phase=Phase.READY))
    notes.put_note(SWITCH_NOTE, b'{"schema": 1, "to": 2}')
    shelf = Shelf(1, 2)
    with pytest.raises(UsageError, match="a switch of the index is under way"):
        drop(notes, shelf)
    assert {name.version for name in shelf.names} == {1, 2}
    assert read_reindex(notes) == replace(reindex, phase=Phase.READY)
    notes.drop_note(SWITCH_NOTE)
    assert drop(notes, shelf) == (2, 1)


def test_a_switch_that_ends_while_the_plane_is_waited_for_keeps_both_versions(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_reindex(notes, replace(reindex, phase=Phase.READY))
    shelf = Shelf(1, 2)

    def members(_group: str) -> int:
        shelf.served_version = 2
        return 0

    with pytest.raises(UsageError, match="version 2 is served, and nothing was removed"):
        drop(notes, shelf, members=members)
    assert {name.version for name in shelf.names} == {1, 2}
    assert read_reindex(notes) == replace(reindex, phase=Phase.SWITCHED)


def test_a_version_from_which_a_replica_still_answers_is_not_removed(notes: AssetStore) -> None:
    reindex, _ = begin(notes, Shelf(1))
    write_reindex(notes, replace(reindex, phase=Phase.SWITCHED))
    shelf = Shelf(1, 2, served=2)
    write_report(notes, ReplicaReport("cafe", (1,), 1, NOW_MS))
    with pytest.raises(UsageError, match="version 1 of the index still answers in replica cafe"):
        drop(notes, shelf)
    assert read_reindex(notes) == replace(reindex, phase=Phase.SWITCHED)
    write_report(notes, ReplicaReport("cafe", (1, 2), 2, NOW_MS))

    def members(_group: str) -> int:
        write_report(notes, ReplicaReport("beef", (1,), 1, NOW_MS))  # started during that time, with an old view
        return 0

    with pytest.raises(UnavailableError, match="replica beef"):
        drop(notes, shelf, members=members, wait_s=3.0)
    assert {name.version for name in shelf.names} == {1, 2}
    write_report(notes, ReplicaReport("beef", (1,), 1, NOW_MS - 60_000))  # it died
    assert drop(notes, shelf) == (1, 2)


def test_a_version_that_the_reindex_does_not_know_is_left_alone(notes: AssetStore) -> None:
    with pytest.raises(ConfigError, match="no re-index is under way"):
        drop(notes, Shelf(1))
    begin(notes, Shelf(1))
    with pytest.raises(ConfigError, match="does not know"):
        drop(notes, Shelf(7, served=7))


# --- planes ----------------------------------------------------------------------------------------------------------


def test_the_planes_of_a_version_that_goes_end_and_the_others_stay(notes: AssetStore) -> None:
    now_s = [0.0]
    old = DropWatch(notes, 1, fills=False, clock=lambda: now_s[0])
    new = DropWatch(notes, 2, fills=True, clock=lambda: now_s[0])
    reindex, _ = begin(notes, Shelf(1))
    assert (old.must_end(), new.must_end()) == (False, False)
    write_reindex(notes, replace(reindex, phase=Phase.DROPPED, dropping=1))
    assert (old.must_end(), new.must_end()) == (False, False)  # it looks every few seconds
    now_s[0] += 10.0
    assert (old.must_end(), new.must_end()) == (True, False)
    with pytest.raises(UnavailableError, match="is being removed"):
        old.check_start()
    new.check_start()
    drop(notes, Shelf(1, 2, served=2))
    now_s[0] += 10.0
    assert new.must_end()  # another plane takes over


def test_a_record_that_cannot_be_read_ends_no_plane(notes: AssetStore) -> None:
    notes.put_note("reindex.json", b"{")
    assert not DropWatch(notes, 1, fills=False, clock=lambda: 0.0).must_end()


def test_a_note_of_the_kept_version_that_is_newer_or_damaged_is_refused(notes: AssetStore) -> None:
    write_kept_index(notes, KeptIndex(2, {"surprise": 1}))
    with pytest.raises(ConfigError, match="surprise"):
        with_kept_index(SETTINGS, notes)
    for damage in (b"{", b"[]", b'{"schema": 9}'):
        notes.put_note("index.json", damage)
        with pytest.raises(ConfigError, match=r"index\.json"):
            with_kept_index(SETTINGS, notes)
