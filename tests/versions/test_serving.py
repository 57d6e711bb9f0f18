"""Checks which versions a replica holds, and with which settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.versions import Phase, Reindex
from penstock.versions.serving import held_versions, plane_settings

REINDEX = Reindex(
    1,
    2,
    "null:16",
    "penstock.v2",
    0,
    Phase.READY,
    settings={"profile": "null:16", "store": {"version": 2}, "kafka": {"group": "penstock.v2"}},
)
SETTINGS = Settings(profile="null:8", kafka={"group": "penstock"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phase", "served", "held"),
    [
        (Phase.FILLING, 1, {1}),
        (Phase.READY, 1, {1, 2}),
        (Phase.SWITCHED, 2, {1, 2}),
        (Phase.DROPPED, 2, {2}),
        (Phase.DROPPED, 1, {1}),
    ],
)
def test_both_versions_are_held_from_ready_to_drop(phase: Phase, served: int, held: set[int]) -> None:
    assert held_versions(SETTINGS, replace(REINDEX, phase=phase), served) == held


def test_without_a_reindex_the_served_version_is_held() -> None:
    assert held_versions(SETTINGS, None, 3) == {3}


def test_a_version_whose_models_are_not_known_any_more_is_not_held() -> None:
    moved_on = SETTINGS.model_copy(update={"store": SETTINGS.store.model_copy(update={"version": 2})})
    assert held_versions(moved_on, replace(REINDEX, phase=Phase.SWITCHED), 2) == {2}


def test_each_version_has_its_models_and_its_group() -> None:
    old, new = plane_settings(SETTINGS, REINDEX, 1), plane_settings(SETTINGS, REINDEX, 2)
    assert (old.profile, old.store.version, old.kafka.group) == ("null:8", 1, "penstock")
    assert (new.profile, new.store.version, new.kafka.group) == ("null:16", 2, "penstock.v2")


def test_a_version_that_nothing_describes_is_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"serves version 2 .* store\.version is 1: set store\.version to 2"):
        plane_settings(SETTINGS, None, 2)
