"""Tests when a vector that came with an event stands for that of an encoder, on its way to the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from penstock.assets import asset_uri
from penstock.broker.given_vectors import given_vector
from penstock.config import ImageSettings, TextSettings
from penstock.encoders.base import Tokenizer
from penstock.errors import Reason
from penstock.media.decode import Decoder
from penstock.media.given_vectors import KnownEncoder
from penstock.records import Assignment, ClaimCheck, Collection, Encoded, FetchedMedia, Field, Outcome, Settled
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer, WriteRequest
from tests.media.test_decode import SPEC, _png
from tests.store.builders import DIM, spec

ENCODER = "clip/0123/4567"
KNOWN = {"joint.image": KnownEncoder(ENCODER, DIM), "passage.text": KnownEncoder("minilm/1/2", 3)}


@pytest.fixture
def decoder(tokenizer: Tokenizer) -> Decoder:
    return decoder_that_knows(tokenizer, KNOWN)


def decoder_that_knows(tokenizer: Tokenizer, encoders: Mapping[str, KnownEncoder]) -> Decoder:
    return Decoder(
        text=TextSettings(max_passage_tokens=20, overlap_tokens=0),
        image=ImageSettings(),
        image_spec=SPEC,
        tokenizer=tokenizer,
        joint_text_encoder="joint.text",
        known_encoders=lambda: encoders,
    )


def with_vector(media: FetchedMedia, values: Sequence[float], encoder: str = ENCODER) -> FetchedMedia:
    return replace(media, event=replace(media.event, vectors=(given_vector(encoder, values),)))


def test_a_vector_of_the_same_encoder_is_not_computed_again(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    given = with_vector(fetched_of(_png("red")), [3.0, 4.0, *[0.0] * (DIM - 2)])
    other = fetched_of(_png("blue"))
    decoded, inputs = decoder.decode([given, other])
    assert inputs["joint.image"].keys == (other.sha256,)
    assert [entry.vectors for entry in decoded.pending] == [
        ((Field.JOINT, "given:joint.image", 0),),
        ((Field.JOINT, "joint.image", 0),),
    ]
    (encoded,) = decoded.given
    assert (encoded.encoder, encoded.vectors.dtype) == ("given:joint.image", np.float32)
    assert encoded.vectors[0, :2].tolist() == pytest.approx([0.6, 0.8])
    assert all(event.vectors == () for event in decoded.indexable)


def test_the_store_has_the_vector_that_came(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    media = with_vector(fetched_of(_png("red")), [0.0, 2.0, *[0.0] * (DIM - 2)])
    decoded, inputs = decoder.decode([media])
    assert inputs == {}
    store = MemoryStore()
    store.ensure(spec())
    position = media.event.position
    assignments = (Assignment(position.topic, position.partition, 1),)
    writer = Writer(store, wall_ms=lambda: 1_700_000_000_000)
    writer.start(assignments)
    nothing = Encoded("joint.image", np.zeros((0, DIM), np.float32))
    (settled,) = writer.write(WriteRequest("lane-0", assignments), decoded, nothing)
    assert settled == Settled(position, Outcome.INDEXED)
    asset_id = media.event.asset.id
    (entry,) = store.get(Collection.IMAGE, list(store.entry_ids(Collection.IMAGE, [asset_id])[asset_id]))
    assert entry.vectors[Field.JOINT][:2].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [3e38, 1e-38, 1e-44])
def test_a_vector_of_any_length_keeps_its_direction(
    value: float, decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    decoded, _ = decoder.decode(
        [with_vector(fetched_of(_png("red")), [value, -value, value, value, *[0.0] * (DIM - 4)])]
    )
    (encoded,) = decoded.given
    assert encoded.vectors.tolist() == [[0.5, -0.5, 0.5, 0.5, *[0.0] * (DIM - 4)]]


def test_a_change_of_labels_keeps_the_entries_only_if_the_same_vector_comes_again(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    plain = fetched_of(_png("red"))
    source = replace(plain.event, payload=ClaimCheck(asset_uri(plain.sha256)), names_acl=True)
    first = with_vector(replace(plain, event=source), [0.0, 2.0, *[0.0] * (DIM - 2)])
    decoded, _ = decoder.decode([first])
    store = MemoryStore()
    store.ensure(spec())
    assignments = (Assignment(source.position.topic, source.position.partition, 1),)
    writer, request = Writer(store, wall_ms=lambda: 1_700_000_000_000), WriteRequest("lane-0", assignments)
    writer.start(assignments)
    writer.write(request, decoded, Encoded("joint.image", np.zeros((0, DIM), np.float32)))
    later = replace(first.event.position, offset=first.event.position.offset + 1)
    again = replace(first.event, position=later, origin=later, timestamp_ms=source.timestamp_ms + 1, acl=("hr",))
    corrected = replace(again, vectors=(given_vector(ENCODER, [2.0, *[0.0] * (DIM - 1)]),))
    assert writer.relabel(request, [corrected]) == ()
    assert writer.relabel(request, [replace(again, vectors=())]) == ()
    assert writer.relabel(request, [again]) == (Settled(later, Outcome.INDEXED),)


def test_a_vector_of_another_encoder_is_left_aside(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    decoded, inputs = decoder.decode([with_vector(fetched_of(_png("red")), [1.0, 0.0], "clip/other/4567")])
    assert len(inputs["joint.image"]) == 1
    assert decoded.given == ()


def test_a_text_of_several_passages_is_encoded(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    single = with_vector(fetched_of("One is here."), [1.0, 0.0, 0.0], "minilm/1/2")
    several = with_vector(fetched_of("One is here. " * 5 + "Two is there. " * 5), [1.0, 0.0, 0.0], "minilm/1/2")
    decoded, inputs = decoder.decode([single, several])
    assert decoded.pending[0].vectors == ((Field.PASSAGE, "given:passage.text", 0), (Field.JOINT, "joint.text", 0))
    assert len(inputs["passage.text"]) == 2
    assert len(inputs["joint.text"]) == 3


@pytest.mark.parametrize("values", [[1.0], [0.0] * DIM])
def test_a_vector_that_its_encoder_cannot_have_made_is_malformed(
    values: list[float], decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    wrong, right = with_vector(fetched_of(_png("red")), values), fetched_of(_png("blue"))
    decoded, _ = decoder.decode([wrong, right])
    assert [(rejected.step, rejected.reason) for rejected in decoded.rejected] == [("decode", Reason.MALFORMED)]
    assert decoded.indexable == (right.event,)


def test_encoders_are_looked_up_only_once_a_vector_comes(
    tokenizer: Tokenizer, fetched_of: Callable[..., FetchedMedia]
) -> None:
    lookups: list[int] = []

    def known() -> Mapping[str, KnownEncoder]:
        lookups.append(1)
        return KNOWN

    decoder = decoder_that_knows(tokenizer, KNOWN)
    decoder._known_encoders = known
    decoder.decode([fetched_of(_png("red"))])
    assert lookups == []
    decoder.decode([with_vector(fetched_of(_png("red")), [1.0, *[0.0] * (DIM - 1)])])
    assert lookups == [1]
