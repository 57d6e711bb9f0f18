from __future__ import annotations

import random
import re

import pytest

from penstock.samples.images import load_concepts
from tools.reference_models.grammar import TEMPLATES, VOCABULARY, WORDS, sentence, word_string


def test_every_word_stands_once_and_is_a_plain_word() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert 130 <= len(VOCABULARY) <= 160
    assert all(re.fullmatch(r"[a-z]+", word) for word in VOCABULARY)


def test_most_animals_and_things_have_a_reference_image() -> None:
    words = {word for concept in load_concepts() for word in concept.name.lower().split()}
    nouns = {*WORDS["animal"], *WORDS["thing"]}
    assert nouns <= words, sorted(nouns - words)


def test_templates_use_every_class_and_no_word_that_is_not_in_the_vocabulary() -> None:
    used = {name for template in TEMPLATES for name in re.findall(r"\{(\w+)\}", template)}
    assert used == WORDS.keys() - {"small"}
    plain = {word for template in TEMPLATES for word in re.sub(r"\{\w+\}", "", template).split()}
    assert plain <= set(WORDS["small"])


@pytest.mark.parametrize("seed", range(50))
def test_a_sentence_is_of_known_words_and_names_no_two_things_alike(seed: int) -> None:
    words = sentence(random.Random(seed)).split()
    assert set(words) <= set(VOCABULARY)
    content = [word for word in words if word not in WORDS["small"]]
    assert len(set(content)) == len(content)


def test_a_seed_always_gives_the_same_sentence() -> None:
    assert sentence(random.Random(7)) == sentence(random.Random(7))
    assert len(word_string(random.Random(7), 12).split()) == 12
