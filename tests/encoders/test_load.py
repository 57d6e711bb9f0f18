from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.encoders.load import (
    describe_models,
    fingerprint,
    load_encoder,
    load_encoders,
    load_transcriber,
    profile_fingerprints,
    speech_fingerprint,
)
from penstock.encoders.profiles import ClipSpec, Profile, SentenceSpec, SpeechSpec, load_profile
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from penstock.records import Float32
from penstock.samples import Concept, compose, load_concepts
from tests.encoders.conftest import pixels_input, random_pixels, texts_input


@pytest.fixture(scope="module")
def profile(tower: ClipSpec) -> Profile:
    """`reference` with an untrained tower."""
    return replace(load_profile("reference"), joint=tower)


def test_all_encoders_of_a_profile_are_loaded_by_role(profile: Profile) -> None:
    encoders = load_encoders(profile, device="cpu", precision="fp32", cache_size=5, threads=1)
    assert tuple(encoders) == profile.roles
    assert [encoder.name for encoder in encoders.values()] == list(profile.roles)
    assert encoders["joint.image"].encode(pixels_input(random_pixels(2, 64))).vectors.shape == (2, 384)
    assert encoders["passage.text"].encode(texts_input("a")).vectors.shape == (1, 384)
    assert {role: encoder.fingerprint for role, encoder in encoders.items()} == profile_fingerprints(profile)


def test_the_shipped_reference_models_find_images_by_name_as_well_in_auto_precision() -> None:
    profile = load_profile("reference")
    concepts = load_concepts()[::30]
    images = [compose(concept, seed=9, size_px=profile.image.size_px) for concept in concepts]
    exact, rounded = (images_and_names(profile, precision, images, concepts) for precision in ("fp32", "auto"))
    for expected, vectors in zip(exact, rounded, strict=True):
        assert (expected * vectors).sum(axis=1).min() > 0.999
    for vectors, names in (exact, rounded):
        is_first = (names @ vectors.T).argmax(axis=1) == np.arange(len(concepts))
        assert is_first.mean() >= 0.8


def images_and_names(
    profile: Profile, precision: str, images: Sequence[Image.Image], concepts: Sequence[Concept]
) -> tuple[Float32, Float32]:
    encoders = load_encoders(profile, precision=precision, device="cpu", threads=1)
    pixels = np.stack([np.asarray(image) for image in images])
    names = texts_input(*(concept.name for concept in concepts))
    return (
        encoders["joint.image"].encode(pixels_input(pixels)).vectors,
        encoders[profile.joint_text_encoder].encode(names).vectors,
    )


def test_a_role_that_the_profile_lacks_is_refused(profile: Profile) -> None:
    with pytest.raises(ConfigError, match=r"no encoder 'joint\.text'"):
        load_encoder("joint.text", profile)


def test_a_fingerprint_distinguishes_weights_and_preprocessing(profile: Profile) -> None:
    original = fingerprint("joint.image", profile)
    assert isinstance(profile.joint, ClipSpec)
    sharper = replace(
        profile, joint=replace(profile.joint, image=replace(profile.joint.image, interpolation="bilinear"))
    )
    other = fingerprint("joint.image", sharper)
    assert (original.model, original.weights) == (other.model, other.weights)
    assert original.preprocessing != other.preprocessing
    assert isinstance(profile.passage, SentenceSpec)
    prompted = replace(profile, passage=replace(profile.passage, passage_prompt="passage: "))
    assert fingerprint("passage.text", prompted) != fingerprint("passage.text", profile)


def test_models_are_described_without_being_loaded_or_fetched() -> None:
    (minilm, *_) = describe_models(load_profile("reference"), precision="fp32", device="cpu")
    assert minilm.present
    assert minilm.size_bytes == 90_868_376
    rows = {row.role: row for row in describe_models(load_profile("small"), precision="fp32", device="cpu")}
    assert set(rows) == {"passage.text", "joint.image", "joint.text", "speech"}
    assert "intfloat/multilingual-e5-small" in rows["passage.text"].source
    assert rows["joint.image"].space is not None
    assert rows["joint.image"].space.dim == 768
    assert rows["joint.image"].precision == "fp32 on cpu"
    assert "timm/ViT-B-32-SigLIP2-256" in rows["joint.image"].source
    assert "Systran/faster-whisper-base" in rows["speech"].source
    assert rows["speech"].precision == "float32 on cpu"


# --- the speech model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_speech(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """`reference` with an untrained speech model."""
    from tools.reference_models.grammar import VOCABULARY
    from tools.reference_models.speech_tokens import make_tokens
    from tools.reference_models.train_speech import make_model, save

    folder = tmp_path_factory.mktemp("speech")
    tokens = make_tokens(VOCABULARY)
    save(make_model(tokens), tokens, folder)
    return replace(
        load_profile("reference"), speech=SpeechSpec("untrained", FolderWeights(folder, "model.bin"), "float32")
    )


def test_the_speech_model_of_a_profile_is_loaded_and_transcribes(with_speech: Profile) -> None:
    loaded = load_transcriber(with_speech, device="cpu", threads=1)
    transcripts = loaded.transcribe([np.zeros(16_000, np.float32)] * 2)
    assert [transcript.language for transcript in transcripts] == ["en", "en"]
    assert loaded.fingerprint == speech_fingerprint(with_speech)


def test_a_speech_model_that_is_damaged_is_named(with_speech: Profile, tmp_path: Path) -> None:
    assert isinstance(with_speech.speech, SpeechSpec)
    (tmp_path / "model.bin").write_bytes(b"no model")
    damaged = replace(with_speech, speech=replace(with_speech.speech, source=FolderWeights(tmp_path, "model.bin")))
    with pytest.raises(ConfigError, match="untrained: it could not be loaded"):
        load_transcriber(damaged, device="cpu")


def test_a_profile_without_a_speech_model_names_those_that_have_one() -> None:
    with pytest.raises(ConfigError, match="reference, shelf, small, gpu have one"):
        load_transcriber(load_profile("random:ViT-B-32"))


def test_the_null_transcriber_gives_equal_audio_equal_words_and_other_audio_others() -> None:
    loaded = load_transcriber(load_profile("null"))
    first, second, third = loaded.transcribe([np.full(16_000, level, np.float32) for level in (0.1, 0.1, 0.2)])
    assert first == second != third
    assert (first.segments[0].start_s, first.segments[0].end_s) == (0.0, 1.0)


def test_a_precision_that_ctranslate2_lacks_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="bf16 is bfloat16, in which CTranslate2 cannot compute on cpu") as refused:
        load_transcriber(load_profile("reference"), device="cpu", precision="bf16")
    assert "\n" not in str(refused.value)
