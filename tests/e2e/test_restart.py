"""Kills every process of a running Penstock, and starts it again on the same folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from penstock.broker.base import Message
from tests.e2e.shared.test_spine import jpeg
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]


def test_what_was_acknowledged_survives_the_death_of_every_process(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    stack = Stack(folder, {"PENSTOCK_QUERY__PORT": "0", "PENSTOCK_PROFILE": "null:8"})
    try:
        stack.start()
        texts = [
            Message("media.text", f"k{number}".encode(), f"Text {number} about a harbour.".encode())
            for number in range(100)
        ]
        stack.produce([*texts, Message("media.image", b"banana", jpeg("banana"))])
        stack.settle()
        stack.produce(
            [Message("media.text", f"late{number}".encode(), f"Late text {number}.".encode()) for number in range(50)]
        )
        stack.kill_tree()
        stack.start()
        stack.settle()
        assert stack.counts() == {"text": 150, "image": 1, "asset": 151}
        assert stack.search("banana", modalities=["image"])[0]["key"] == "banana"
        assert stack.stop() == 0
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)
