"""Dead letters as a person deals with them: look, mend, replay; with the real parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Message
from penstock.broker.topics import group_lag
from tests.e2e.house import House
from tests.e2e.test_spine import claim

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

TOPIC = "media.text"


def ends(house: House) -> int:
    """How many offsets the topic has, all partitions together."""
    return sum(one.log_end for one in group_lag(house.settings.kafka, [TOPIC]))


def replayed(house: House, *keys: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What became of the dead letters of these keys, by key."""
    letters = [house.dead_letters(key)[0].position for key in keys]
    told = house.json("deadletters", "replay", *(f"{at.partition}@{at.offset}" for at in letters), code=code)
    return {one["key"]: one for one in told["letters"]}


def test_dead_letters_are_mended_and_replayed(house: House, claims_root: Path) -> None:
    mended, newer, deleted, hopeless = keys = [f"replay-{name}" for name in ("mended", "newer", "deleted", "hopeless")]
    missing = {key: claims_root / ("never.txt" if key == hopeless else "late.txt") for key in keys}
    house.produce([claim(key, path.as_uri()) for key, path in missing.items()])
    house.settle()
    house.produce([Message(TOPIC, newer.encode(), b"The newer version."), Message(TOPIC, deleted.encode(), None)])
    house.settle()
    missing[mended].write_text("The ferry sailed at dawn.")
    open_ = {one["key"] for one in house.json("deadletters", "list", "--open", "--topic", TOPIC)}
    assert open_.intersection(keys) == {mended, hopeless}

    first = replayed(house, *keys, code=1)
    assert {key: first[key]["now"] for key in keys} == {
        mended: "indexed", newer: "superseded", deleted: "superseded", hopeless: "failed_again",
    }  # fmt: skip
    assert first[mended]["replayed_to"].partition("@")[0] == first[mended]["origin"].partition("@")[0]
    assert "deleted the asset" in first[deleted]["now_detail"]
    assert first[hopeless]["now_detail"].startswith(first[hopeless]["reason"])
    assert len(house.dead_letters(hopeless)) == 2
    assert [hit["text"] for hit in house.entries_of(mended)] == ["The ferry sailed at dawn."]

    counts, end = house.counts(), ends(house)
    again = replayed(house, mended, newer, deleted)
    assert [again[key]["now"] for key in (mended, newer, deleted)] == ["indexed", "superseded", "superseded"]
    assert (house.counts(), ends(house)) == (counts, end)
    assert [hit["text"] for hit in house.entries_of(newer)] == ["The newer version."]
    assert house.entries_of(deleted) == []
