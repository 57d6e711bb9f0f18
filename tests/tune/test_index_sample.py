"""Tests of sampling the vectors of an index that exists."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.errors import UsageError
from penstock.records import Collection, Field
from penstock.store.memory import MemoryStore
from penstock.tune.index_sample import banks_of_index, sample_vectors
from tests.store.builders import DIM, asset, entry, spec
from tests.tune.made_banks import unit

RNG = np.random.default_rng(0)
IMAGES, TEXTS = unit(RNG.normal(size=(120, DIM))), unit(RNG.normal(size=(60, DIM)))
QUESTIONS = unit(RNG.normal(size=(25, DIM)))


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    filled = MemoryStore()
    filled.ensure(spec())
    filled.upsert(Collection.IMAGE, [entry(asset(key=f"i{n}"), joint=vector) for n, vector in enumerate(IMAGES)])
    texts = [
        entry(asset(key=f"t{n}", topic="media.text"), collection=Collection.TEXT, passage=vector)
        for n, vector in enumerate(TEXTS)
    ]
    filled.upsert(Collection.TEXT, texts)
    return filled


def test_a_sample_has_vectors_of_the_index_and_is_the_same_each_time(store: MemoryStore) -> None:
    sample = sample_vectors(store, Collection.IMAGE, 50)[Field.JOINT]
    assert len(sample) == 50
    assert {vector.tobytes() for vector in sample} < {vector.tobytes() for vector in IMAGES}
    assert np.array_equal(sample_vectors(store, Collection.IMAGE, 50)[Field.JOINT], sample)


def test_images_are_asked_by_words_and_by_images_and_texts_by_words(store: MemoryStore) -> None:
    questions = {(Collection.IMAGE, Field.JOINT): QUESTIONS, (Collection.TEXT, Field.PASSAGE): QUESTIONS}
    banks = {bank.channel: bank for bank in banks_of_index(store, questions, max_vectors=1_000, seed=0)}
    assert [direction.name for direction in banks["text.passage"].directions] == ["words → text.passage"]
    by_name = {direction.name: direction.queries for direction in banks["image.joint"].directions}
    assert np.array_equal(by_name["words → image.joint"], QUESTIONS)
    held_out = {vector.tobytes() for vector in by_name["images → image.joint"]}
    assert len(held_out) == 25
    assert not held_out & {vector.tobytes() for vector in banks["image.joint"].vectors}
    assert len(banks["image.joint"].vectors) == 95


def test_an_index_with_too_little_is_refused() -> None:
    empty = MemoryStore()
    empty.ensure(spec())
    with pytest.raises(UsageError, match=r"no channel with 40 vectors: give a set by --set"):
        banks_of_index(empty, {(Collection.IMAGE, Field.JOINT): QUESTIONS}, max_vectors=100, seed=0)
