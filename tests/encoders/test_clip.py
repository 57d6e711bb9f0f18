from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from penstock.config import ImageSettings
from penstock.encoders.base import Fingerprint, ImageSpec
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.clip import ClipImageEncoder, ClipTextEncoder, build
from penstock.encoders.load import load_encoder
from penstock.encoders.precision import Precision, choose_precision
from penstock.encoders.profiles import ClipSpec, load_profile
from penstock.encoders.weights import FolderWeights, HubWeights
from penstock.errors import ConfigError
from penstock.media.image import decode_image
from penstock.records import AssetRef, Event, FetchedMedia, Float32, Modality, Position, UInt8
from tests.encoders.conftest import opened, pixels_input, random_pixels, texts_input

SMALL_ARCHITECTURE = "ViT-S-32-alt"


def image_encoder(model: ClipSpec, precision: Precision = "fp32") -> ClipImageEncoder:
    fingerprint = Fingerprint(model.name, "w", "p")
    return ClipImageEncoder(
        model, fingerprint, EncoderOptions(device="cpu", precision=precision, cache_size=100, max_items=4)
    )


def random_model() -> ClipSpec:
    model = load_profile(f"random:{SMALL_ARCHITECTURE}").joint
    assert isinstance(model, ClipSpec)
    return model


def decoded(file: bytes, spec: ImageSpec) -> UInt8:
    asset, position = AssetRef("t", "media.image", "k"), Position("media.image", 0, 0)
    event = Event(asset, position, position, 0, Modality.IMAGE, None)
    mime = "image/png" if file.startswith(b"\x89PNG") else "image/jpeg"
    return decode_image(FetchedMedia(event, file, mime, "0" * 64, "asset:0"), spec=spec, settings=ImageSettings())


def by_open_clip(model: ClipSpec, files: list[bytes]) -> Float32:
    """Returns float32[n, dim] by open_clip's own transform, without code of ours."""
    source = model.source
    torch.manual_seed(0)
    name = f"local-dir:{source.folder}" if isinstance(source, FolderWeights) else model.architecture
    built, _, transform = open_clip.create_model_and_transforms(name)
    with torch.inference_mode():
        pixels = torch.stack([transform(opened(file)) for file in files])
        return np.asarray(built.eval().encode_image(pixels, normalize=True).numpy(), dtype=np.float32)


def agreement(vectors: Float32, expected: Float32) -> Float32:
    """Returns cosines after the mean image is subtracted: weights drawn at random put all images close together."""
    mean = expected.mean(axis=0)
    mine, theirs = vectors - mean, expected - mean
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray((mine * theirs).sum(axis=1) / norms, dtype=np.float32)


@pytest.mark.parametrize("kind", ["tower", "vit"])
def test_vectors_agree_with_open_clips_own_transform(kind: str, tower: ClipSpec, photographs: list[bytes]) -> None:
    model = tower if kind == "tower" else random_model()
    encoder = image_encoder(model)
    pixels = np.stack([decoded(file, model.image) for file in photographs])
    expected = by_open_clip(model, photographs)

    vectors = encoder.encode(pixels_input(pixels)).vectors
    assert (vectors * expected).sum(axis=1).min() > 0.999
    assert agreement(vectors, expected).min() > 0.999

    # the same comparison must detect a mistake: red and blue exchanged
    wrong = encoder.encode(replace(pixels_input(pixels[..., ::-1]), keys=tuple("abcdef"))).vectors
    assert agreement(wrong, expected).min() < 0.99


def test_a_batch_larger_than_the_models_own_keeps_its_order(tower: ClipSpec) -> None:
    pixels = random_pixels(11, 64)
    encoder = image_encoder(tower)
    together = encoder.encode(pixels_input(pixels)).vectors
    for row in (0, 5, 10):
        alone = image_encoder(tower).encode(pixels_input(pixels[row : row + 1])).vectors[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_read_only_pixels_are_taken(tower: ClipSpec, recwarn: pytest.WarningsRecorder) -> None:
    pixels = random_pixels(2, 64)
    pixels.setflags(write=False)  # as arrays out of Ray's object store are
    assert image_encoder(tower).encode(pixels_input(pixels)).vectors.shape == (2, 384)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_pixels_of_another_size_are_refused_and_reject_no_item(tower: ClipSpec) -> None:
    with pytest.raises(ConfigError, match=r"uint8\[2, 64, 64, 3\].*uint8\[2, 32, 32, 3\].*same profile"):
        image_encoder(tower).encode(pixels_input(random_pixels(2, 32)))


def test_a_profile_with_other_preprocessing_than_open_clips_is_refused(tower: ClipSpec) -> None:
    wrong = replace(tower, image=replace(tower.image, resize_mode="squash"))
    with pytest.raises(ConfigError, match="open_clip prepares"):
        image_encoder(wrong)


def test_a_damaged_checkpoint_is_one_clear_line(tower: ClipSpec, tower_folder: Path, tmp_path: Path) -> None:
    assert isinstance(tower.source, FolderWeights)
    (tmp_path / "open_clip_config.json").write_text((tower_folder / "open_clip_config.json").read_text())
    (tmp_path / tower.source.weights).write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="tower/untrained") as caught:
        image_encoder(replace(tower, source=replace(tower.source, folder=tmp_path)))
    assert "\n" not in str(caught.value)


def test_random_weights_are_the_same_each_time_and_leave_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = build(random_model(), "fp32", "cpu"), build(random_model(), "fp32", "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_texts_are_as_open_clip_encodes_them() -> None:
    texts = ("a red bicycle", "", "word " * 300)
    encoder = load_encoder("joint.text", load_profile(f"random:{SMALL_ARCHITECTURE}"), precision="fp32", device="cpu")
    assert isinstance(encoder, ClipTextEncoder)
    vectors = encoder.encode(texts_input(*texts, encoder="joint.text")).vectors
    torch.manual_seed(0)
    built = open_clip.create_model(SMALL_ARCHITECTURE).eval()
    with torch.inference_mode():
        expected = built.encode_text(open_clip.get_tokenizer(SMALL_ARCHITECTURE)(list(texts)), normalize=True)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_a_model_in_the_hubs_cache_is_loaded_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a seed, put where the hub's client keeps a repository, under a tag that open_clip knows."""
    from huggingface_hub import constants

    snapshot = tmp_path / "models--some--clip" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--clip" / "refs").mkdir()
    (tmp_path / "models--some--clip" / "refs" / "main").write_text("0")
    built = build(random_model(), "fp32", "cpu")
    save_file(built.state_dict(), snapshot / "open_clip_model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = HubWeights("some/clip", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))

    loaded = build(replace(random_model(), source=source), "fp32", "cpu")
    assert torch.equal(loaded.state_dict()["visual.proj"], built.state_dict()["visual.proj"])


@pytest.mark.skipif(choose_precision("auto", "cpu") != "bf16", reason="this CPU has no bf16 of its own")
@pytest.mark.parametrize("kind", ["tower", "vit"])
def test_bf16_agrees_with_fp32(kind: str, tower: ClipSpec, photographs: list[bytes]) -> None:
    model = tower if kind == "tower" else random_model()
    batch = pixels_input(np.stack([decoded(file, model.image) for file in photographs]))
    exact, rounded = (image_encoder(model, precision).encode(batch).vectors for precision in ("fp32", "bf16"))
    assert (exact * rounded).sum(axis=1).min() > 0.999
