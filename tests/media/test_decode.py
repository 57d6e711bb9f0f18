"""A batch of text and images, decoded to pending entries and encoder inputs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from penstock.config import ImageSettings, TextSettings
from penstock.encoders.base import ImageSpec, Tokenizer
from penstock.errors import Reason, UnavailableError
from penstock.media import decode as decode_module
from penstock.media.decode import Decoder
from penstock.records import MODALITIES, Collection, Event, FetchedMedia, Field, Modality, Position, Rejected

SPEC = ImageSpec(16, "shortest", "bicubic", 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PROSE = "First sentence here. " * 20


def _png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 24), colour).save(out, "PNG")
    return out.getvalue()


def _decoder(tokenizer: Tokenizer, *, joint: str = "joint.text") -> Decoder:
    text = TextSettings(max_passage_tokens=20, overlap_tokens=0)
    return Decoder(text=text, image=ImageSettings(), image_spec=SPEC, tokenizer=tokenizer, joint_text_encoder=joint)


@pytest.fixture
def decoder(tokenizer: Tokenizer) -> Decoder:
    return _decoder(tokenizer)


def test_an_image_is_one_entry_with_its_pixels(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    red, blue = fetched_of(_png("red")), fetched_of(_png("blue"))
    decoded, inputs = decoder.decode([red, blue])
    assert decoded.indexable == (red.event, blue.event)
    assert [(entry.collection, entry.part, entry.text, entry.vectors) for entry in decoded.pending] == [
        (Collection.IMAGE, 0, "", ((Field.JOINT, "joint.image", 0),)),
        (Collection.IMAGE, 0, "", ((Field.JOINT, "joint.image", 1),)),
    ]
    assert [(entry.mime, entry.uri) for entry in decoded.pending] == [("image/png", red.uri), ("image/png", blue.uri)]
    (pixels,) = inputs.values()
    assert pixels.keys == (red.sha256, blue.sha256)
    assert pixels.pixels is not None
    assert (pixels.pixels.shape, pixels.pixels.dtype) == ((2, 16, 16, 3), np.uint8)
    assert pixels.pixels[:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_a_text_has_an_entry_for_each_passage(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    decoded, inputs = decoder.decode([fetched_of("One is here. " * 5 + "Two is there. " * 5)])
    assert [entry.part for entry in decoded.pending] == list(range(len(decoded.pending)))
    assert len(decoded.pending) == 2
    assert set(inputs) == {"passage.text", "joint.text"}
    for row, entry in enumerate(decoded.pending):
        assert entry.vectors == ((Field.PASSAGE, "passage.text", row), (Field.JOINT, "joint.text", row))
        assert inputs["passage.text"].texts[row] == inputs["joint.text"].texts[row] == entry.text
        assert inputs["passage.text"].keys[row] == hashlib.sha256(entry.text.encode()).hexdigest()
        assert entry.end_char - entry.start_char == len(entry.text)


def test_one_row_serves_both_fields_where_the_spaces_are_one(
    tokenizer: Tokenizer, fetched_of: Callable[..., FetchedMedia]
) -> None:
    decoded, inputs = _decoder(tokenizer, joint="passage.text").decode([fetched_of("Just this.")])
    assert decoded.pending[0].vectors == ((Field.PASSAGE, "passage.text", 0), (Field.JOINT, "passage.text", 0))
    assert {name: len(batch) for name, batch in inputs.items()} == {"passage.text": 1}


def test_the_same_content_twice_is_encoded_once(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    decoded, inputs = decoder.decode([fetched_of(_png("red")), fetched_of(_png("blue")), fetched_of(_png("red"))])
    assert [entry.vectors[0][2] for entry in decoded.pending] == [0, 1, 0]
    assert len(inputs["joint.image"]) == 2
    assert len(decoded.indexable) == 3


def test_an_asset_that_cannot_be_decoded_is_rejected_alone(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    good, bad, empty = fetched_of(_png("red")), fetched_of(_png("red")[:60]), fetched_of(b" \n")
    decoded, _ = decoder.decode([bad, good, empty])
    assert decoded.indexable == (good.event,)
    assert [(rejection.position, rejection.step, rejection.reason) for rejection in decoded.rejected] == [
        (bad.event.position, "decode", Reason.CORRUPT),
        (empty.event.position, "decode", Reason.CORRUPT),
    ]


def test_earlier_rejections_and_tombstones_are_passed_through(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia], event_of: Callable[..., Event]
) -> None:
    earlier = Rejected(Position("media.image", 0, 9), "fetch", Reason.TOO_LARGE, "large")
    tombstone = event_of(None)
    decoded, inputs = decoder.decode([], [earlier], [tombstone])
    assert (decoded.rejected, decoded.tombstones, decoded.pending, inputs) == ((earlier,), (tombstone,), (), {})


def test_the_documents_title_is_used_if_the_producer_gave_none(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia]
) -> None:
    page = "<html><title>Theirs</title><body>words"
    decoded, _ = decoder.decode([fetched_of(page), fetched_of(page, title="Ours")])
    assert [event.title for event in decoded.indexable] == ["Theirs", "Ours"]
    assert [entry.event.title for entry in decoded.pending] == ["Theirs", "Ours"]


@pytest.mark.parametrize(("failure", "reason"), [(MemoryError(), "too_large"), (ZeroDivisionError("odd"), "corrupt")])
def test_a_decoder_that_fails_rejects_that_asset_alone(
    decoder: Decoder,
    fetched_of: Callable[..., FetchedMedia],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    reason: str,
) -> None:
    def fails(fetched: FetchedMedia, context: object) -> None:
        raise failure

    decoders = {**decode_module.DECODERS, Modality.TEXT: fails}
    monkeypatch.setattr(decode_module, "DECODERS", decoders)
    decoded, _ = decoder.decode([fetched_of("words"), fetched_of(_png("red"))])
    assert [rejection.reason for rejection in decoded.rejected] == [reason]
    assert len(decoded.pending) == 1
    if reason == "corrupt":
        assert "ZeroDivisionError: odd" in decoded.rejected[0].detail


def test_a_transient_failure_stops_the_batch(
    decoder: Decoder, fetched_of: Callable[..., FetchedMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fetched: FetchedMedia, context: object) -> None:
        raise UnavailableError("unavailable")

    monkeypatch.setattr(decode_module, "DECODERS", {Modality.TEXT: fails})
    with pytest.raises(UnavailableError):
        decoder.decode([fetched_of("words")])


def test_every_modality_without_segments_has_a_decoder() -> None:
    assert set(decode_module.DECODERS) == {modality for modality, spec in MODALITIES.items() if not spec.segmented}


def test_a_modality_without_decoder_is_unsupported(decoder: Decoder, fetched_of: Callable[..., FetchedMedia]) -> None:
    decoded, _ = decoder.decode([fetched_of(b"fLaC" + bytes(100))])
    assert [rejection.reason for rejection in decoded.rejected] == [Reason.UNSUPPORTED]
