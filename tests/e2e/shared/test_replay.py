"""Handles dead letters as an operator does: list, fix the cause, replay; with real services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Message
from penstock.broker.topics import group_lag
from tests.e2e.shared.test_spine import claim
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

TOPIC = "media.text"


def ends(stack: Stack) -> int:
    """Returns the number of offsets of the topic, over all partitions."""
    return sum(lag.log_end for lag in group_lag(stack.settings.kafka, [TOPIC]))


def replayed(stack: Stack, *keys: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Returns the resolution of the dead letters of these keys, by key."""
    letters = [stack.dead_letters(key)[0].position for key in keys]
    report = stack.json("deadletters", "replay", *(f"{at.partition}@{at.offset}" for at in letters), code=code)
    return {letter["key"]: letter for letter in report["dead_letters"]}


def test_dead_letters_are_mended_and_replayed(stack: Stack, claims_root: Path) -> None:
    mended, newer, deleted, hopeless = keys = [f"replay-{name}" for name in ("mended", "newer", "deleted", "hopeless")]
    missing = {key: claims_root / ("never.txt" if key == hopeless else "late.txt") for key in keys}
    stack.produce([claim(key, path.as_uri()) for key, path in missing.items()])
    stack.settle()
    stack.produce([Message(TOPIC, newer.encode(), b"The newer version."), Message(TOPIC, deleted.encode(), None)])
    stack.settle()
    missing[mended].write_text("The ferry sailed at dawn.")
    open_ = {letter["key"] for letter in stack.json("deadletters", "list", "--open", "--topic", TOPIC)}
    assert open_.intersection(keys) == {mended, hopeless}

    first = replayed(stack, *keys, code=1)
    assert {key: first[key]["status"] for key in keys} == {
        mended: "indexed", newer: "superseded", deleted: "superseded", hopeless: "failed_again",
    }  # fmt: skip
    assert first[mended]["replayed_to"].partition("@")[0] == first[mended]["origin"].partition("@")[0]
    assert "deleted the asset" in first[deleted]["status_detail"]
    assert first[hopeless]["status_detail"].startswith(first[hopeless]["reason"])
    assert len(stack.dead_letters(hopeless)) == 2
    assert [hit["text"] for hit in stack.entries_of(mended)] == ["The ferry sailed at dawn."]

    counts, end = stack.counts(), ends(stack)
    again = replayed(stack, mended, newer, deleted)
    assert [again[key]["status"] for key in (mended, newer, deleted)] == ["indexed", "superseded", "superseded"]
    assert (stack.counts(), ends(stack)) == (counts, end)
    assert [hit["text"] for hit in stack.entries_of(newer)] == ["The newer version."]
    assert stack.entries_of(deleted) == []
