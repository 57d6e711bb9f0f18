"""Offline runs: exact rankings, ties against the system, the product's fusion, and whole evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation import EvaluationOptions, evaluate_offline
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.metrics import measure
from penstock.evaluate.offline import fuse_offline, search_offline
from penstock.evaluate.result import SetResult
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.rrf import ReciprocalRankFusion
from penstock.records import Channel, Collection, Field
from tests.evaluate.made_sets import write_images, write_texts

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
JOINT = Channel(Collection.IMAGE, Field.JOINT)
FUSION = ReciprocalRankFusion({}, k=10)
OPTIONS = EvaluationOptions(draws=200)


@pytest.fixture
def vectors(tmp_path: Path) -> VectorFiles:
    return VectorFiles(tmp_path / "vectors", load_profile("null"))


@pytest.fixture
def texts(tmp_path: Path) -> EvaluationSet:
    return read_set(write_texts(tmp_path / "texts"))


def _figures(result: SetResult, system: str, dimension: str = "all") -> dict[str, float]:
    row = next(row for row in result.rows if (row.system, row.dimension) == (system, dimension))
    return {metric: interval.mean for metric, interval in row.figures.items()}


def test_dense_rankings_are_exact(texts: EvaluationSet, vectors: VectorFiles) -> None:
    ranking = search_offline(texts, vectors, depth=10).by_channel[PASSAGE]
    bank = vectors.texts("passage.text", [document.text for document in texts.documents])
    cosines = vectors.texts("passage.text", [query.text for query in texts.queries]) @ bank.T
    np.testing.assert_array_equal(ranking.entries, np.argsort(-cosines, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(ranking.scores, -np.sort(-cosines, axis=1)[:, :10], atol=1e-6)


def test_spare_entries_come_after_those_of_the_query_and_change_nothing_else(
    texts: EvaluationSet, vectors: VectorFiles
) -> None:
    plain, spared = (search_offline(texts, vectors, depth=5, spare=spare) for spare in (0, 3))
    deep = search_offline(texts, vectors, depth=8)
    assert spared.of_query(1) == plain.of_query(1)
    np.testing.assert_array_equal(spared.run_of(PASSAGE).documents, plain.run_of(PASSAGE).documents)
    ranking = [*spared.of_query(1).by_channel[PASSAGE], *spared.further_of_query(1)[PASSAGE]]
    assert ranking == deep.of_query(1).by_channel[PASSAGE]
    assert plain.further_of_query(1)[PASSAGE] == []


def test_lexical_rankings_hold_only_texts_with_a_word_of_the_query(texts: EvaluationSet, vectors: VectorFiles) -> None:
    rankings = search_offline(texts, vectors)
    values = measure(rankings.run_of(LEXICAL), texts.judgements)
    assert values["hit@1"].mean() > 0.95
    lengths = (rankings.by_channel[LEXICAL].entries >= 0).sum(axis=1)
    assert lengths.min() >= 1
    assert lengths.min() < len(texts.documents)


def test_entries_of_equal_score_count_against_the_system(tmp_path: Path, vectors: VectorFiles) -> None:
    dataset = read_set(write_texts(tmp_path / "texts"))
    equal = np.zeros((len(dataset.documents), 64), dtype=np.float32)
    equal[:, 0] = 1.0
    vectors.put_texts("passage.text", [document.text for document in dataset.documents], equal)
    values = measure(search_offline(dataset, vectors).run_of(PASSAGE), dataset.judgements)
    assert values["hit@10"].max() == 0.0


def test_a_second_search_loads_no_encoder(
    texts: EvaluationSet, vectors: VectorFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = search_offline(texts, vectors)
    monkeypatch.setattr("penstock.evaluate.vectors.load_encoder", None)
    again = VectorFiles(vectors._folder, vectors.profile)
    after = search_offline(texts, again)
    np.testing.assert_array_equal(before.by_channel[PASSAGE].entries, after.by_channel[PASSAGE].entries)


def test_vectors_of_another_model_are_not_read(texts: EvaluationSet, vectors: VectorFiles) -> None:
    items = [document.text for document in texts.documents]
    other = VectorFiles(vectors._folder, load_profile("null:32"))
    assert vectors.texts("passage.text", items).shape == (len(items), 64)
    assert other.texts("passage.text", items).shape == (len(items), 32)


def test_images_and_texts_are_fused_as_the_query_plane_does(tmp_path: Path, vectors: VectorFiles) -> None:
    dataset = read_set(write_images(tmp_path / "images"))
    rankings = search_offline(dataset, vectors)
    assert set(rankings.by_channel) >= {PASSAGE, LEXICAL, JOINT}
    fused = fuse_offline(rankings, FUSION)
    assert fused.run.documents.shape[0] == len(dataset.queries)
    kinds = {dataset.documents[row].modality for row in fused.run.documents[0, :2].tolist()}
    assert kinds == {"text", "image"}  # kinds take turns
    without = fuse_offline(rankings, FUSION, without=[JOINT])
    kinds = {dataset.documents[row].modality for row in without.run.documents[0].tolist() if row >= 0}
    assert kinds == {"text"}


def test_what_a_set_says_of_its_images_is_not_searched(tmp_path: Path, vectors: VectorFiles) -> None:
    """A caption is what the query is about: BM25 over it would find every image."""
    rankings = search_offline(read_set(write_images(tmp_path / "images")), vectors)
    assert Channel(Collection.IMAGE, Field.LEXICAL) not in rankings.by_channel


def test_both_directions_of_images_are_evaluated(tmp_path: Path, vectors: VectorFiles) -> None:
    dataset = read_set(write_images(tmp_path / "images"))
    words, images = evaluate_offline(dataset, vectors, FUSION, OPTIONS)
    assert [words.result.name, images.result.name] == ["images", "images-image-to-text"]
    assert {row.system for row in words.result.rows} == {
        "chance", "text.passage", "text.joint", "text.lexical", "image.joint", "search"
    }  # fmt: skip
    assert words.result.diagnostics.relevant == pytest.approx({"image": 2 / 3, "text": 1 / 3})
    assert sum(words.result.diagnostics.first_places.values()) == pytest.approx(1.0)
    assert images.result.documents == len(dataset.queries)


def test_row_zero_comes_first_and_each_slice_has_its_rows(texts: EvaluationSet, vectors: VectorFiles) -> None:
    (evaluated,) = evaluate_offline(texts, vectors, FUSION, OPTIONS)
    rows = evaluated.result.rows
    assert [row.system for row in rows[:5]] == ["chance", "text.passage", "text.joint", "text.lexical", "search"]
    slices = dict.fromkeys((row.dimension, row.value) for row in rows)
    assert list(slices) == [("all", "all"), ("lang", "de"), ("lang", "en"), ("kind", "full"), ("kind", "short")]
    assert rows[0].queries == 40  # of the test split
    assert rows[0].groups == 20
    assert _figures(evaluated.result, "text.lexical")["hit@1"] > 0.9
    assert _figures(evaluated.result, "text.passage")["hit@1"] < 0.3  # the null encoder knows nothing


def test_equal_seeds_give_equal_results(texts: EvaluationSet, vectors: VectorFiles) -> None:
    (first,) = evaluate_offline(texts, vectors, FUSION, OPTIONS)
    (second,) = evaluate_offline(texts, vectors, FUSION, OPTIONS)
    assert first.result.rows == second.result.rows
    assert first.result.per_query == second.result.per_query


def test_queries_in_two_splits_are_left_out_and_counted(tmp_path: Path, vectors: VectorFiles) -> None:
    folder = write_texts(tmp_path / "texts")
    with (folder / "qrels.tsv").open("a") as file:
        file.write("full2\tt0\t1\n")  # t2 is in test, t0 in train
    (evaluated,) = evaluate_offline(read_set(folder), vectors, FUSION, OPTIONS)
    assert evaluated.result.diagnostics.left_out == 1
    assert evaluated.result.rows[0].queries == 39


def test_a_split_without_queries_is_refused(texts: EvaluationSet, vectors: VectorFiles) -> None:
    with pytest.raises(UsageError, match="no split 'nowhere'"):
        evaluate_offline(texts, vectors, FUSION, EvaluationOptions(split="nowhere"))


def test_audio_is_refused_offline(tmp_path: Path, vectors: VectorFiles) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / "a.wav").write_bytes(b"RIFF")
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "a", "audio": "a.wav"}\n')
    (folder / "split.json").unlink()
    with pytest.raises(UsageError, match="has audio, which only the planes can index"):
        search_offline(read_set(folder), vectors)
