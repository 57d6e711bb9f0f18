"""Tests of training, of the plain fusions, of the table, and of explanations by masking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.offline import search_offline
from penstock.evaluate.vectors import VectorFiles
from penstock.train.compression.reductions import normalised
from penstock.train.fusion.asset_tokens import IMAGE, TEXT, read_assets
from penstock.train.fusion.cached_scores import CachedScores
from penstock.train.fusion.explanations import EXPLAINS_FROM, MaskingTest, masking_test
from penstock.train.fusion.judge import mean_mrr, reciprocal_ranks
from penstock.train.fusion.measure import FusionData, measure_fusion, trained_options
from penstock.train.fusion.plain import UNTRAINED, early, late
from penstock.train.fusion.rules import AttentionRules
from penstock.train.fusion.training import FusionOptions, TrainedFusion, train_fusion
from tests.evaluate.made_sets import write_images, write_texts
from tests.train.fusion.made_assets import made_data


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


DATA = made_data()


TRAINED = ("cross-attention, all seven rules", "gate sigmoid(W(v + t) + b), no attention")


def trained(rules: AttentionRules, seed: int = 0, epochs: int = 2) -> TrainedFusion:
    options = FusionOptions(rules=rules, epochs=epochs)
    return train_fusion(DATA.assets, DATA.train, DATA.dev, options, weight=0.5, seed=seed)


def test_ties_count_against_the_right_asset_and_padding_does_not_count() -> None:
    questions = np.array([0, 1])
    assets = np.array([[0, 5, 6, -1], [5, 6, 7, -1]])
    scores = np.array([[0.5, 0.5, 0.1, 9.0], [1.0, 1.0, 1.0, 1.0]], dtype=np.float32)
    assert reciprocal_ranks(DATA.assets, questions, assets, scores).tolist() == [0.5, 0.0]


def test_training_is_never_worse_on_dev_than_its_start_and_repeats_by_seed() -> None:
    start = mean_mrr(DATA.assets, DATA.dev.rows, DATA.dev.assets, trained(AttentionRules(), epochs=0).scores(DATA.dev))
    fusion = trained(AttentionRules())
    assert mean_mrr(DATA.assets, DATA.dev.rows, DATA.dev.assets, fusion.scores(DATA.dev)) >= start
    assert np.array_equal(trained(AttentionRules()).scores(DATA.test), fusion.scores(DATA.test))


def test_training_leaves_torch_s_random_numbers_as_they_were() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained(AttentionRules(), epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", list(UNTRAINED))
def test_plain_fusions_find_more_than_chance(name: str) -> None:
    scores = UNTRAINED[name](DATA.assets, DATA.test.rows, DATA.test.assets)
    assert scores.shape == DATA.test.assets.shape
    assert mean_mrr(DATA.assets, DATA.test.rows, DATA.test.assets, scores) > 0.35  # of ten candidates: 0.29


def test_the_ends_of_alpha_are_one_modality_alone() -> None:
    arguments = (DATA.assets, DATA.test.rows, DATA.test.assets)
    of_text, of_image = DATA.assets.cosines(*arguments[1:])
    np.testing.assert_allclose(late(1.0)(*arguments), of_text, atol=1e-6)
    np.testing.assert_allclose(late(0.0)(*arguments), of_image, atol=1e-6)
    np.testing.assert_allclose(early(1.0)(*arguments), of_text, atol=1e-5)


def test_a_gate_of_an_asset_does_not_depend_on_the_others() -> None:
    gate = UNTRAINED["gate of text · image"]
    together = gate(DATA.assets, DATA.test.rows, DATA.test.assets)
    alone = gate(DATA.assets, DATA.test.rows[3:4], DATA.test.assets[3:4, :2])
    np.testing.assert_allclose(alone[0], together[3, :2], atol=1e-6)


def test_every_rule_is_measured_on_off_and_alone() -> None:
    names = [name for name, _ in trained_options()]
    assert len(names) == len(set(names)) == 1 + 16 + 1 + 2


def test_the_table_compares_with_the_base() -> None:
    tried = [trained for trained in trained_options(1) if trained[0] in TRAINED]
    rows = {row.fusion: row for row in measure_fusion(DATA, seeds=(0,), draws=100, seed=0, tried=tried)}
    assert len(rows) == len(UNTRAINED) + 2 + len(TRAINED)
    (base,) = (row for name, row in rows.items() if name.startswith("late α"))
    assert (base.difference.mean, base.corrected_p) == (0.0, 1.0)
    everything = rows["cross-attention, all seven rules"]
    assert everything.difference.mean == pytest.approx(everything.figure.mean - base.figure.mean)
    assert everything.corrected_p >= everything.p
    assert everything.masking is not None
    assert rows["gate sigmoid(W(v + t) + b), no attention"].masking is None


def test_scores_with_kept_keys_are_those_without_and_repeat_no_asset() -> None:
    fusion = trained(AttentionRules())
    cached = CachedScores(fusion)
    for _ in range(2):
        np.testing.assert_allclose(cached.scores(DATA.test), fusion.scores(DATA.test), atol=1e-4)
    assert cached.cache.computed == len(np.unique(DATA.test.assets))


# --- explanations ----------------------------------------------------------------------------------------------------


def test_weights_explain_a_score_that_depends_on_nothing_else() -> None:
    fusion = trained(AttentionRules.none(), epochs=0)
    with torch.no_grad():  # attention alone decides, sharply: keys are tokens, and the answer is the token itself
        fusion.model.weight.fill_(0.0)
        torch.nn.init.orthogonal_(fusion.model.query.weight, gain=12.0)
        fusion.model.key.weight.copy_(fusion.model.query.weight)
        torch.nn.init.orthogonal_(fusion.model.value.weight)
        fusion.model.out.weight.copy_(fusion.model.value.weight.T)
    result = masking_test(fusion, DATA.test, seed=0)
    assert result.cases == len(DATA.test.rows)
    assert result.share > 0.5
    assert result.explains is (result.share >= EXPLAINS_FROM)


def test_weights_of_a_model_that_does_not_read_them_explain_nothing() -> None:
    untrained = trained(AttentionRules.none(), epochs=0)  # `out` is zero
    assert masking_test(untrained, DATA.test, seed=0).share == 0.0
    assert not MaskingTest(0.79, 100).explains
    assert MaskingTest(0.8, 100).explains
    assert not MaskingTest(0.0, 0).explains


# --- sets ------------------------------------------------------------------------------------------------------------


def test_documents_of_one_question_are_one_asset(tmp_path: Path) -> None:
    dataset = read_set(write_images(tmp_path / "made"))
    stored = VectorFiles(tmp_path / "vectors", load_profile("reference"))
    rng = np.random.default_rng(0)
    images = [document.image for document in dataset.documents if document.image]
    stored.put_images(images, normalised(rng.normal(size=(len(images), 384)).astype(np.float32)))
    texts = [document.text for document in dataset.documents if not document.image]
    questions = [query.text for query in dataset.queries]
    for items in (texts, questions):
        stored.put_texts("passage.text", items, normalised(rng.normal(size=(len(items), 384)).astype(np.float32)))
    assets = read_assets(dataset, stored)
    assert assets.tokens.shape[0] == 8
    assert (assets.present[:, assets.kinds == IMAGE].sum(axis=1) == 2).all()
    assert (assets.present[:, assets.kinds == TEXT].sum(axis=1) == 1).all()
    assert (assets.asset_of[[list(rows) for rows in dataset.judgements.rows()]] == assets.right[:, np.newaxis]).all()
    data = FusionData.of(assets, search_offline(dataset, stored))
    assert sorted(data.test.assets[0].tolist()) == list(range(8)), "all are among the first 50"
    assert len(data.train.rows) == len(data.dev.rows) == 2


def test_two_spaces_are_refused(tmp_path: Path) -> None:
    stored = VectorFiles(tmp_path / "vectors", load_profile("null"))
    with pytest.raises(UsageError, match="needs one space"):
        read_assets(read_set(write_images(tmp_path / "made")), stored)


def test_a_set_of_texts_alone_is_refused(tmp_path: Path) -> None:
    stored = VectorFiles(tmp_path / "vectors", load_profile("null"))
    with pytest.raises(UsageError, match="needs texts, images and splits"):
        read_assets(read_set(write_texts(tmp_path / "made")), stored)
