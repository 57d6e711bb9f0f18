"""Tests of reading pairs, and of dividing them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation_set import fold
from penstock.evaluate.vectors import VectorFiles
from penstock.records import Field, Modality
from penstock.train.alignment_data import FIT, GATE, language_code, read_alignment
from penstock.train.pairs import LEFT_OUT, TrainingPair, align_pairs, read_pairs
from tests.evaluate.made_sets import write_images
from tests.train.planted import planted, write_planted


@pytest.fixture
def vectors(tmp_path: Path) -> VectorFiles:
    return VectorFiles(tmp_path / "vectors", load_profile("null"))


def write(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def test_pairs_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    file = write(
        tmp_path / "pairs.jsonl",
        {"question": "heron", "text": "a bird", "lang": "en", "tenant": "acme", "time": 5, "split": "dev"},
        {"question": "fog", "image": "a.jpg"},
    )
    assert read_pairs(file) == [
        TrainingPair("heron", "a bird", None, "en", "acme", 5.0, "dev"),
        TrainingPair("fog", image=tmp_path / "a.jpg"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "heron"}, 'either "text" or "image"'),
        ({"question": " ", "text": "a"}, 'has a "question"'),
        ({"question": "a", "text": "b", "image": "c"}, 'either "text" or "image"'),
        ({"question": "a", "text": 3}, '"text" must be a text'),
        ({"question": "a", "text": "b", "split": "half"}, "split 'half' is none of"),
        ({"question": "a", "text": "b", "time": "today"}, "seconds since the epoch"),
        ({"question": "a", "image": "missing.jpg"}, "there is no image missing.jpg"),
        ([], "expected a JSON object"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, row: object, message: str) -> None:
    file = write(tmp_path / "pairs.jsonl", {"question": "a", "text": "b"}, row)
    with pytest.raises(UsageError, match=f"line 2: .*{message}"):
        read_pairs(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "missing.jsonl")
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(UsageError, match="line 1: not JSON"):
        read_pairs(tmp_path / "broken.jsonl")


def test_documents_of_equal_words_are_one(vectors: VectorFiles) -> None:
    data = align_pairs(
        [TrainingPair("one", "A text."), TrainingPair("two", "a text"), TrainingPair("three", "another")],
        vectors,
        "pairs",
    )
    assert len(data.bank) == 2
    assert data.groups[0] == data.groups[1] != data.groups[2]
    assert data.judgements.documents.tolist() == [0, 0, 1]
    assert data.field is Field.PASSAGE


def test_pairs_without_times_are_divided_by_group(vectors: VectorFiles) -> None:
    pairs = [TrainingPair(f"question {number}", f"text {number % 50}") for number in range(200)]
    data = align_pairs(pairs, vectors, "pairs")
    fitted, judged = (set(data.groups[data.rows(split)].tolist()) for split in (FIT, GATE))
    assert (len(fitted), len(judged)) == (30, 20)
    assert not fitted & judged
    assert (align_pairs(pairs, vectors, "pairs").splits == data.splits).all()


def test_questions_of_equal_words_are_of_one_group(vectors: VectorFiles) -> None:
    spelled = ("Question {}?", "question  {}")
    pairs = [TrainingPair(spelled[number % 2].format(number // 4), f"text {number}") for number in range(200)]
    data = align_pairs(pairs, vectors, "pairs")
    assert len(set(data.groups.tolist())) == 50
    fitted, judged = ({fold(pairs[row].question) for row in data.rows(split).tolist()} for split in (FIT, GATE))
    assert (len(fitted), len(judged)) == (30, 20)
    assert not fitted & judged, "a question that was fitted to judges nothing, whatever document is right for it"


def test_pairs_with_times_are_fitted_to_the_past_and_judged_by_the_future(vectors: VectorFiles) -> None:
    times = np.random.default_rng(0).permutation(100)
    numbers = [number % 70 for number in range(100)]
    pairs = [
        TrainingPair(f"question {n}", f"text {n}", time_s=float(time)) for n, time in zip(numbers, times, strict=True)
    ]
    data = align_pairs(pairs, vectors, "pairs")
    assert {split for split, time in zip(data.splits, times, strict=True) if time < 60} == {FIT}
    assert {split for split, time in zip(data.splits, times, strict=True) if time >= 60} == {GATE, LEFT_OUT}
    fitted = {pairs[row].question for row in data.rows(FIT).tolist()}
    assert not fitted & {pairs[row].question for row in data.rows(GATE).tolist()}, "a repeated pair judges nothing"


def test_given_splits_and_tenants_are_kept(vectors: VectorFiles) -> None:
    pairs = [
        TrainingPair("a", "b", split="train", tenant="acme"),
        TrainingPair("c", "d", split="test", tenant="globex"),
    ]
    data = align_pairs(pairs, vectors, "pairs")
    assert data.splits.tolist() == ["train", "test"]
    assert data.dimensions["tenant"] == ["acme", "globex"]


def test_texts_and_images_are_not_mixed(vectors: VectorFiles, tmp_path: Path) -> None:
    for pairs in ([], [TrainingPair("a", "b"), TrainingPair("c", image=tmp_path)]):
        with pytest.raises(UsageError, match="and not both"):
            align_pairs(pairs, vectors, "pairs")


def test_a_set_gives_questions_and_documents_of_one_modality(vectors: VectorFiles, tmp_path: Path) -> None:
    dataset = read_set(write_images(tmp_path / "images"))
    texts, images = read_alignment(dataset, vectors), read_alignment(dataset, vectors, modality=Modality.IMAGE)
    assert (texts.field, texts.role, len(texts.bank)) == (Field.PASSAGE, "passage.text", 8)
    assert (images.field, images.role, len(images.bank)) == (Field.JOINT, "joint.text", 16)
    assert images.judgements.counts.tolist() == [2] * 8
    assert images.splits.tolist() == ["train", "dev", "test", "test"] * 2
    assert images.dimensions["modality"] == ["image"] * 8


def test_a_set_is_read_as_it_was_planted(tmp_path: Path) -> None:
    data = planted()
    folder = write_planted(tmp_path / "set", tmp_path / "vectors", data)
    read = read_alignment(read_set(folder), VectorFiles(tmp_path / "vectors", load_profile("null:32")))
    assert (read.questions == data.questions).all()
    assert (read.bank == data.bank).all()
    assert (read.splits == data.splits).all()
    assert read.rows(FIT, lang="ja").tolist() == data.rows(FIT, lang="ja").tolist()


@pytest.mark.parametrize(("value", "code"), [("pt_BR", "pt"), ("zh-CN", "zh"), ("ja", "ja"), ("", "")])
def test_codes_of_languages(value: str, code: str) -> None:
    assert language_code(value) == code
