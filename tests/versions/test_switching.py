"""A switch that is interrupted between any two of its steps leaves one version, whole, once a process starts again."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.assets import AssetStore
from penstock.errors import ConfigError, UnavailableError, UsageError
from penstock.records import Collection
from penstock.store.aliases import AliasTable, VersionedStore
from penstock.store.memory import MemoryStore
from penstock.store.names import ASSET, PhysicalCollection
from penstock.versions import Phase, Reindex, read_reindex, write_reindex
from penstock.versions.switching import (
    INTERRUPTED_AFTER_S,
    NOTE,
    begin_switch,
    complete_switch,
    finish_switch,
    finish_switch_if_known,
    served_version,
    switch,
)
from tests.store.builders import spec

REINDEX = Reindex(1, 2, "shelf", "penstock.v2", 1_700_000_000_000, Phase.READY)


class Crash(BaseException):
    """The end of a process."""


class Steps:
    """Counts steps, and ends the process before one of them. Counts the requests to the store, too."""

    def __init__(self, crash_before: int | None) -> None:
        self.taken = 0
        self.requests: list[str] = []
        self._crash_before = crash_before

    def take(self) -> None:
        if self.taken == self._crash_before:
            raise Crash
        self.taken += 1


class CountedAliases:
    """Aliases whose changes are steps."""

    def __init__(self, aliases: AliasTable, steps: Steps) -> None:
        self._aliases = aliases
        self._steps = steps

    def collections(self) -> Sequence[PhysicalCollection]:
        self._steps.requests.append("list")
        return self._aliases.collections()

    def candidates(self, alias: str) -> Sequence[PhysicalCollection]:
        self._steps.requests.append("list")
        return self._aliases.candidates(alias)

    def served(self, alias: str) -> PhysicalCollection | None:
        self._steps.requests.append(f"read {alias}")
        return self._aliases.served(alias)

    def switch(self, alias: str, to: PhysicalCollection) -> PhysicalCollection | None:
        self._steps.requests += ["list", f"read {alias}"]
        before = self._aliases.served(alias)
        self.move(alias, before, to)
        return before

    def redirect(self, alias: str, to: PhysicalCollection) -> None:
        self._steps.take()
        self._steps.requests.append(f"alter {alias}")
        self._aliases.redirect(alias, to)

    def move(self, alias: str, before: PhysicalCollection | None, to: PhysicalCollection) -> None:
        self._steps.take()
        self._steps.requests.append(f"alter {alias}")
        self._aliases.move(alias, before, to)

    def remove(self, physical: PhysicalCollection) -> None:
        self._aliases.remove(physical)

    def drop(self, alias: str) -> None:
        self._steps.take()
        self._steps.requests.append(f"drop {alias}")
        self._aliases.drop(alias)


class CountedStore:
    """A store whose aliases are counted."""

    def __init__(self, store: MemoryStore, steps: Steps) -> None:
        self.aliases: AliasTable = CountedAliases(store.aliases, steps)


class CountedAssets(AssetStore):
    """An asset store whose notes are steps."""

    steps = Steps(None)

    def put_note(self, name: str, data: bytes) -> None:
        self.steps.take()
        super().put_note(name, data)

    def drop_note(self, name: str) -> None:
        self.steps.take()
        super().drop_note(name)


def made_assets(steps: Steps | None = None) -> CountedAssets:
    assets = CountedAssets(f"memory://switching-{uuid.uuid4().hex}")
    assets.steps = Steps(None)
    write_reindex(assets, REINDEX)
    assets.steps = steps or Steps(None)
    return assets


def made_store() -> MemoryStore:
    """Returns a store with version 1, which has images, and version 2, which has none but has sounds."""
    old = MemoryStore()
    old.ensure(spec())
    new = MemoryStore(beside=old)
    both = spec(model="clip-b", version=2)
    vectors = {Collection.TEXT: both.vectors[Collection.TEXT], Collection.SOUND: both.vectors[Collection.IMAGE]}
    slugs = {Collection.TEXT: "clip_b", Collection.SOUND: "clip_b"}
    new.ensure(replace(both, vectors=vectors, model_slug=slugs))
    return old


def served(store: MemoryStore) -> dict[str, int]:
    names = [ASSET, *(collection.value for collection in Collection)]
    of = {name: store.aliases.served(name) for name in names}
    return {name: physical.version for name, physical in of.items() if physical is not None}


def finish_later(store: VersionedStore, assets: AssetStore, after_s: float = INTERRUPTED_AFTER_S + 1) -> int | None:
    """Finishes an interrupted switch by a clock that is ahead."""
    return finish_switch(store, assets, wall_ms=lambda: time.time_ns() // 1_000_000 + int(after_s * 1000))


ALIASES = {1: {ASSET: 1, "text": 1, "image": 1}, 2: {ASSET: 2, "text": 2, "sound": 2}}
PHASES = {1: Phase.READY, 2: Phase.SWITCHED}


def check_whole(store: MemoryStore, assets: AssetStore) -> None:
    """Checks that aliases and phase are those of the version that is served, and that no note is left."""
    version = served_version(store)
    assert version is not None
    assert served(store) == ALIASES[version]
    assert assets.note(NOTE) is None
    reindex = read_reindex(assets)
    assert reindex is not None
    assert reindex.phase is PHASES[version]


def test_a_new_version_takes_no_alias_while_another_one_is_served() -> None:
    assert served(made_store()) == ALIASES[1]


def test_a_switch_and_a_rollback_move_every_alias_and_the_phase() -> None:
    store, assets = made_store(), made_assets()
    switch(store, assets, 2)
    assert served_version(store) == 2
    check_whole(store, assets)
    switch(store, assets, 1)
    assert served_version(store) == 1
    check_whole(store, assets)
    assert finish_switch(store, assets) is None


def test_a_version_is_served_after_one_request_and_the_rest_asks_once_about_each_alias() -> None:
    steps = Steps(None)
    store, assets = CountedStore(made_store(), steps), made_assets()
    intention = begin_switch(store, assets, 2)
    assert steps.requests == [f"alter {ASSET}"]
    assert served_version(store) == 2
    assert assets.note(NOTE) is not None
    steps.requests.clear()
    complete_switch(store, assets, intention)
    reads = [request for request in steps.requests if request.startswith("read")]
    assert sorted(reads) == sorted([f"read {ASSET}"] * 2 + [f"read {collection.value}" for collection in Collection])
    assert [request for request in steps.requests if not request.startswith("read")] == [
        "list",
        "alter text",
        "drop image",
        "alter sound",
    ]
    assert assets.note(NOTE) is None


def test_a_version_that_the_store_does_not_have_is_refused_and_nothing_is_noted() -> None:
    store, assets = made_store(), made_assets()
    with pytest.raises(ConfigError, match=r"version 3 of the index cannot be served.*asset__v3"):
        switch(store, assets, 3)
    assert assets.note(NOTE) is None
    check_whole(store, assets)


def steps_of(action: Callable[[CountedStore, CountedAssets], Any]) -> int:
    """Returns the number of steps of an action that is not interrupted."""
    steps = Steps(None)
    action(CountedStore(made_store(), steps), made_assets(steps))
    return steps.taken


STEPS = steps_of(lambda store, assets: switch(store, assets, 2))


def test_a_switch_has_the_steps_that_are_interrupted_below() -> None:
    assert STEPS == 7  # intention, the alias of asset rows, text, image removed, sound, phase, no intention


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_a_crash_between_any_two_steps_is_finished_or_undone(tries: list[tuple[int, int, int]]) -> None:
    store, assets = made_store(), made_assets()
    for to, crash_before, crash_again in tries:
        before = served_version(store)
        for action, step in ((lambda s, a: switch(s, a, to), crash_before), (finish_later, crash_again)):  # noqa: B023
            assets.steps = Steps(step)
            with suppress(Crash):
                action(CountedStore(store, assets.steps), assets)
        assert served_version(store) in (before, to)
        assets.steps = Steps(None)
        finish_later(store, assets)
        check_whole(store, assets)


@pytest.mark.parametrize("step", range(STEPS))
def test_the_alias_of_the_asset_rows_decides(step: int) -> None:
    store, steps = made_store(), Steps(step)
    assets = made_assets(steps)
    with pytest.raises(Crash):
        switch(CountedStore(store, steps), assets, 2)
    decided = 2 if step > 1 else 1
    assert served_version(store) == decided
    assets.steps = Steps(None)
    finished = finish_later(store, assets)
    assert finished == (None if step == 0 else decided)
    check_whole(store, assets)


def test_a_process_that_starts_leaves_a_switch_that_is_under_way_alone() -> None:
    """Otherwise no note would be left of the switch once it dies."""
    steps = Steps(2)  # it dies once it has altered the alias `asset`
    store, assets = made_store(), made_assets(steps)
    finished: list[int | None] = []

    class Starting(CountedAliases):
        def redirect(self, alias: str, to: PhysicalCollection) -> None:
            finished.extend([finish_switch(store, assets), finish_later(store, assets, -INTERRUPTED_AFTER_S / 2)])
            super().redirect(alias, to)

    counted = CountedStore(store, steps)
    counted.aliases = Starting(store.aliases, steps)
    with pytest.raises(Crash):
        switch(counted, assets, 2)
    assets.steps = Steps(None)
    assert set(finished) == {None}
    assert served(store) == {**ALIASES[1], ASSET: 2}
    assert finish_later(store, assets) == 2
    check_whole(store, assets)


def test_the_note_of_a_switch_that_began_since_stays() -> None:
    store, assets = made_store(), made_assets()
    first = begin_switch(store, assets, 2)
    second = begin_switch(store, assets, 1)
    assert first.token != second.token
    complete_switch(store, assets, first)
    assert assets.note(NOTE) is not None
    complete_switch(store, assets, second)
    check_whole(store, assets)


def test_the_note_of_a_release_that_dated_none_is_finished_at_once() -> None:
    store, assets = made_store(), made_assets()
    store.aliases.switch(ASSET, PhysicalCollection(ASSET, 2))
    assets.put_note(NOTE, json.dumps({"schema": 1, "to": 2}).encode())
    assert finish_switch(store, assets) == 2
    check_whole(store, assets)


def test_a_switch_that_another_one_overtakes_ends_with_the_version_that_is_served() -> None:
    store = made_store()

    class Overtaken(CountedAssets):
        """Another command rolls back while this one writes the phase."""

        overtaken = False

        def put_note(self, name: str, data: bytes) -> None:
            super().put_note(name, data)
            if name == "reindex.json" and not self.overtaken:
                self.overtaken = True
                store.aliases.switch(ASSET, PhysicalCollection(ASSET, 1))

    assets = Overtaken(f"memory://switching-{uuid.uuid4().hex}")
    assets.overtaken = True
    write_reindex(assets, REINDEX)
    assets.overtaken = False
    switch(store, assets, 2)
    assert served_version(store) == 1
    check_whole(store, assets)


def test_without_a_reindex_only_the_aliases_move() -> None:
    store = made_store()
    assets = AssetStore(f"memory://switching-{uuid.uuid4().hex}")
    switch(store, assets, 2)
    assert served(store) == ALIASES[2]
    assert read_reindex(assets) is None


def test_nothing_is_switched_while_a_version_is_being_removed() -> None:
    store, assets = made_store(), made_assets()
    dropped = replace(REINDEX, phase=Phase.DROPPED, dropping=2)
    write_reindex(assets, dropped)
    with pytest.raises(UsageError, match="is being removed"):
        switch(store, assets, 2)
    assert served(store) == ALIASES[1]
    assert (read_reindex(assets), assets.note(NOTE)) == (dropped, None)


def test_a_removal_that_begins_before_the_intention_is_noted_is_seen() -> None:
    """The removal in turn sees a note that is older than its own record."""

    class Removing(CountedAssets):
        def put_note(self, name: str, data: bytes) -> None:
            if name == NOTE:
                write_reindex(self, replace(REINDEX, phase=Phase.DROPPED, dropping=2))
            super().put_note(name, data)

    store, assets = made_store(), Removing(f"memory://switching-{uuid.uuid4().hex}")
    write_reindex(assets, REINDEX)
    with pytest.raises(UsageError, match="is being removed"):
        switch(store, assets, 2)
    assert served(store) == ALIASES[1]


@pytest.mark.parametrize(
    ("note", "message"),
    [(json.dumps({"schema": 9, "to": 2}), "has schema 9"), ("{", "cannot be read"), ("[]", "cannot be read")],
)
def test_a_note_of_a_newer_release_or_a_damaged_one_is_refused_by_name(note: str, message: str) -> None:
    store, assets = made_store(), made_assets()
    assets.put_note(NOTE, note.encode())
    with pytest.raises(ConfigError, match=rf"{NOTE}.*{message}"):
        finish_switch(store, assets)
    assert assets.note(NOTE) == note.encode()


def test_a_plane_starts_although_the_notes_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    class Away(AssetStore):
        def note(self, name: str) -> bytes | None:
            raise UnavailableError(f"{name} cannot be read")

    finish_switch_if_known(made_store(), Away("memory://switching-away"))
    assert "switch.json cannot be read" in caplog.text
