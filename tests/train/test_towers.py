"""Tests of fine-tuning both towers of a model together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from penstock.cli import main as cli
from penstock.encoders.base import Space
from penstock.encoders.clip import build
from penstock.encoders.profiles import ClipSpec, clip_image_spec, load_profile
from penstock.encoders.weights import FolderWeights, RandomWeights
from penstock.records import UInt8
from penstock.train.towers import CaptionedImages, TowerOptions, caption_words, fine_tune_towers
from tests.evaluate.made_sets import write_images

torch.set_num_threads(1)
SIZE, DIM = 8, 12
CAPTIONS = [f"a {colour} {shape}" for colour in ("red", "green", "blue") for shape in ("square", "dot")]
WORDS = {word: number for number, word in enumerate(sorted({word for text in CAPTIONS for word in text.split()}))}
SPEC = ClipSpec("tiny", "random", RandomWeights(0), Space("tiny", DIM), clip_image_spec(SIZE))


class TinyTowers(nn.Module):
    """Two linear towers, with the interface of open_clip's models."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Linear(3 * SIZE * SIZE, DIM)
        self.text = nn.EmbeddingBag(len(WORDS), DIM)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def encode_image(self, image: Tensor) -> Tensor:
        encoded: Tensor = self.image(image.flatten(1))
        return encoded

    def encode_text(self, text: Tensor) -> Tensor:
        encoded: Tensor = self.text(text)
        return encoded


def tokenize(texts: list[str]) -> Tensor:
    return torch.tensor([[WORDS[word] for word in text.split()] for text in texts])


def pixels(rows: Sequence[int]) -> UInt8:
    images = np.zeros((len(CAPTIONS), SIZE, SIZE, 3), dtype=np.uint8)
    for number in range(len(CAPTIONS)):
        images[number, :, : 4 + 4 * (number % 2), number // 2] = 250
    return np.asarray(images[list(rows)])


DATA = CaptionedImages(CAPTIONS, pixels, np.arange(len(CAPTIONS)))


def train(options: TowerOptions, data: CaptionedImages = DATA) -> tuple[TinyTowers, list[float]]:
    model = TinyTowers()
    return model, fine_tune_towers(model, tokenize, data, SPEC, options)


def test_three_steps_change_both_towers() -> None:
    before = TinyTowers()
    model, losses = train(TowerOptions(steps=3, batch=4, learning_rate=1e-3))
    assert len(losses) == 3
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before.get_parameter(name)), name
    assert not model.training


def test_images_find_their_captions_after_training() -> None:
    model, losses = train(TowerOptions(steps=150, batch=6, learning_rate=1e-2))
    assert losses[-1] < losses[0] / 2
    images = model.encode_image(torch.from_numpy(pixels(range(6))).permute(0, 3, 1, 2).float() / 255)
    assert images.shape == (6, DIM)


def test_the_words_of_captions_are_a_second_task() -> None:
    options = TowerOptions(steps=2, batch=6, learning_rate=1e-3, captions=0.0)
    alone, together = train(options)[1], train(replace(options, captions=1.0))[1]
    assert together[0] > alone[0]
    assert train(options)[1] == alone, "equal seeds give equal trainings"
    assert set(caption_words([*CAPTIONS, "once"])) == {"a", "red", "green", "blue", "square", "dot"}


def test_captions_of_one_image_are_no_negatives_of_each_other() -> None:
    twice = CaptionedImages(CAPTIONS, lambda rows: pixels([0] * len(rows)), np.zeros(6, dtype=int))
    _, losses = train(TowerOptions(steps=1, batch=6, captions=0.0), twice)
    assert losses == pytest.approx([0.0], abs=1e-6)


@pytest.mark.exhaustive
def test_a_model_of_open_clip_is_tuned_and_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    dataset, out = write_images(tmp_path / "images"), tmp_path / "tuned"
    profile = "random:ViT-S-32-alt"
    arguments = ["--set", str(dataset), "--out", str(out), "--steps", "3", "--batch", "4", "--profile", profile]
    assert cli.main(["train", "towers", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["losses"]) == 3
    assert all(np.isfinite(document["losses"]))
    spec = load_profile(profile).joint
    assert isinstance(spec, ClipSpec)
    tuned = build(replace(spec, source=FolderWeights(out, "open_clip_model.safetensors")), "fp32", "cpu")
    before = build(spec, "fp32", "cpu").state_dict()
    changed = [name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any(name.startswith("visual.") for name in changed)
    assert any(not name.startswith("visual.") for name in changed)


def test_a_profile_without_both_towers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    arguments = ["--set", str(write_images(tmp_path / "images")), "--out", str(tmp_path / "out"), "--profile", "null"]
    assert cli.main(["train", "towers", *arguments]) == 2
    assert "has no CLIP model with both towers" in capsys.readouterr().err
