from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from penstock.records import AssetRef, ClaimCheck, EncoderInput, Event, FastPickle, Inline, Modality, Position, Record


def event() -> Event:
    at = Position("media.text", 1, 2)
    return Event(AssetRef("t", "media.text", "k"), at, at, 3, Modality.TEXT, Inline(b"x"), "text/plain", "title")


@pytest.mark.parametrize(
    "made", [event(), ClaimCheck("file:///a"), Record(Position("a", 0, 1), None, b"v", (("h", b"1"),), 5)], ids=type
)
def test_a_record_comes_back_from_a_pickle_as_it_was(made: FastPickle) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(made, protocol)) == made
    assert copy.deepcopy(made) == made


def test_arrays_travel_out_of_band() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(EncoderInput("joint.image", ("k",), pixels=pixels), 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    found = pickle.loads(data, buffers=buffers)
    assert found.pixels is not None
    assert np.shares_memory(found.pixels, pixels)


def test_the_id_of_an_asset_is_told_apart_by_the_length_of_its_names() -> None:
    assert AssetRef("a", "bc", "d").id != AssetRef("ab", "c", "d").id
    assert len(AssetRef("a", "bc", "d").id) == 32
