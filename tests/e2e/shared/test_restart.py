"""Kills every process of the running Penstock, and starts it again on the same folder: the last file of this folder."""

from __future__ import annotations

import pytest

from penstock.broker.base import Message
from tests.e2e.shared.test_spine import jpeg
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(420)]

_NUMBER = 150


def test_what_was_acknowledged_survives_the_death_of_every_process(stack: Stack) -> None:
    before = stack.counts()
    texts = [
        Message("media.text", f"kept-{number}".encode(), f"Text {number} about a harbour.".encode())
        for number in range(_NUMBER)
    ]
    settled = [*texts[:100], Message("media.image", b"kept-banana", jpeg("banana"))]
    stack.produce(settled)
    stack.settle()
    stack.produce(texts[len(settled) - 1 :])
    stack.kill_tree()
    stack.start()
    stack.settle()
    after = stack.counts()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"text": _NUMBER, "image": 1, "asset": _NUMBER + 1}
    assert len(stack.entries_of("kept-banana", "media.image")) == 1
    stack.json("audit")  # which exits with 1 if it does not balance
    assert stack.stop() == 0
