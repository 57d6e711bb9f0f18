from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from penstock.records import AssetRef, ClaimCheck, EncoderInput, Event, FastPickle, Inline, Modality, Position, Record


def _event() -> Event:
    position = Position("media.text", 1, 2)
    asset = AssetRef("t", "media.text", "k")
    return Event(asset, position, position, 3, Modality.TEXT, Inline(b"x"), "text/plain", "title")


@pytest.mark.parametrize(
    "record", [_event(), ClaimCheck("file:///a"), Record(Position("a", 0, 1), None, b"v", (("h", b"1"),), 5)], ids=type
)
def test_a_record_is_equal_after_pickling_and_copying(record: FastPickle) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(record, protocol)) == record
    assert copy.deepcopy(record) == record


def test_arrays_travel_out_of_band() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(EncoderInput("joint.image", ("k",), pixels=pixels), 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    loaded = pickle.loads(data, buffers=buffers)
    assert loaded.pixels is not None
    assert np.shares_memory(loaded.pixels, pixels)
