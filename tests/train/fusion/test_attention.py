"""Tests of cross-attention: what is off is the identity of its part, and one key is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from penstock.train.fusion.asset_tokens import IMAGE, NOTHING, TEXT, WHOLE
from penstock.train.fusion.attention import AttentionShape, CrossAttention, Scored, sinusoids
from penstock.train.fusion.rules import AttentionRules, ablation
from penstock.train.fusion.training import FusionOptions, TrainedFusion, fusion_loss, supervision_loss, train_fusion
from tests.train.fusion.made_assets import DIM, KINDS, made_data

DATA = made_data()
ASSETS = torch.from_numpy(DATA.test.assets)
PRESENT = torch.from_numpy(DATA.assets.present)[ASSETS]


def model(rules: AttentionRules, *, random: bool = True, **options: float) -> CrossAttention:
    """Returns a model whose parameters are all of a seed, so that no part is 0 by its start."""
    torch.manual_seed(0)
    shape = AttentionShape(DIM, len(KINDS), width=8, heads=2, **options)  # type: ignore[arg-type]
    built = CrossAttention(shape, rules, weight=0.7)
    if random:
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return built.eval()


@torch.no_grad()
def scored(built: CrossAttention) -> Scored:
    return TrainedFusion(built, DATA.assets).forward(DATA.test)


def test_an_untrained_model_has_the_order_of_the_weighted_cosines() -> None:
    of_text, of_image = DATA.assets.cosines(DATA.test.rows, DATA.test.assets)
    untrained = model(AttentionRules(), random=False)
    share = torch.sigmoid(untrained.weight).item()
    expected = share * of_text + (1 - share) * of_image
    np.testing.assert_allclose(scored(untrained).scores.numpy(), expected * np.exp(3.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("bias", ("bias",)),
        ("gate", ("gate.weight", "gate.bias")),
        ("levels", ("levels",)),
        ("positions", ("positions",)),
    ],
)
def test_a_rule_that_is_off_reads_none_of_its_parameters_and_one_that_is_on_does(
    rule: str, parameters: tuple[str, ...]
) -> None:
    for rules, matters in ((AttentionRules.none(), False), (AttentionRules.only(rule), True)):
        built = model(rules)
        before = scored(built).scores
        with torch.no_grad():
            for name, parameter in built.named_parameters():
                if name in parameters:
                    parameter.add_(torch.randn(parameter.shape))
        assert torch.equal(scored(built).scores, before) is not matters


def test_bias_and_gate_of_zero_and_levels_of_one_are_their_rules_switched_off() -> None:
    without = model(AttentionRules.none())
    for rule in ("bias", "gate", "levels"):
        neutral = model(AttentionRules.only(rule))
        with torch.no_grad():
            neutral.bias.zero_()
            neutral.gate.weight.zero_()
            neutral.gate.bias.zero_()
            neutral.levels.fill_(1.0)
        assert torch.allclose(scored(neutral).scores, scored(without).scores, atol=1e-6), rule


def test_kept_keys_and_values_change_no_score() -> None:
    built = model(AttentionRules())
    with torch.no_grad():
        known = built.keys_and_values(torch.from_numpy(DATA.assets.tokens)[ASSETS], torch.from_numpy(KINDS))
        kept = TrainedFusion(built, DATA.assets).forward(DATA.test, known=known)
    np.testing.assert_allclose(kept.scores, scored(built).scores, atol=1e-4)


def test_dropout_is_of_training_alone_and_of_its_rule_alone() -> None:
    on, off = model(AttentionRules.only("regularisation")), model(AttentionRules.none())
    assert torch.equal(scored(on).scores, scored(off).scores)
    torch.manual_seed(3)
    assert not torch.equal(scored(on.train()).scores, scored(off.train()).scores)
    assert torch.equal(scored(off.train()).scores, scored(off.eval()).scores)


def test_supervision_and_smoothing_change_the_loss_of_their_rules_alone() -> None:
    def loss(rules: AttentionRules) -> float:
        fusion = TrainedFusion(model(rules), DATA.assets)
        return fusion_loss(fusion, DATA.train, FusionOptions(rules=rules)).item()

    none = loss(AttentionRules.none())
    assert loss(AttentionRules.only("supervision")) > none
    assert loss(AttentionRules.only("regularisation")) != pytest.approx(none)
    assert loss(AttentionRules.only("cache")) == none


def test_the_bottleneck_counts_less_with_a_larger_beta_and_not_at_all_without() -> None:
    fusion = TrainedFusion(model(AttentionRules.none()), DATA.assets)
    losses = [
        fusion_loss(fusion, DATA.train, FusionOptions(rules=AttentionRules.none(), bottleneck=beta)).item()
        for beta in (None, 0.8, 0.3)
    ]
    assert losses[0] < losses[1] < losses[2]


def test_supervision_is_least_where_attention_is_on_the_nearest_token() -> None:
    attention = torch.tensor([[0.8, 0.1, 0.1]])
    losses = [float(supervision_loss(attention, torch.tensor([token]))) for token in (0, 1)]
    assert losses[0] < 0.01 < losses[1]
    assert losses[1] == pytest.approx(float(torch.log1p(torch.exp(torch.tensor(8.0)))), rel=1e-4)  # (0.9 - 0.1) / 0.1


def test_a_higher_temperature_flattens_attention() -> None:
    sharp, flat = (scored(model(AttentionRules.none(), temperature=value)).attention for value in (0.2, 5.0))
    assert sharp.amax(dim=-1).mean() > flat.amax(dim=-1).mean()


def test_hidden_tokens_get_no_attention_and_the_rest_sums_to_one() -> None:
    attention = scored(model(AttentionRules())).attention
    np.testing.assert_allclose(attention.sum(dim=-1), 1.0, atol=1e-5)
    absent = ~PRESENT
    assert absent.any()
    assert attention.permute(0, 1, 3, 2)[absent].max() < 1e-6


def test_attention_with_one_key_is_a_linear_map_of_its_value_and_refused() -> None:
    torch.manual_seed(0)
    single = torch.nn.MultiheadAttention(DIM, 2, batch_first=True).eval()
    keys = torch.randn(5, 1, DIM)
    with torch.no_grad():
        outputs = [single(torch.randn(5, 1, DIM), keys, keys)[0] for _ in range(2)]
        value = torch.nn.functional.linear(keys, single.in_proj_weight[-DIM:], single.in_proj_bias[-DIM:])
        assert torch.allclose(outputs[0], outputs[1], atol=1e-6), "whatever the question is"
        assert torch.allclose(outputs[0], single.out_proj(value), atol=1e-6)
    with pytest.raises(ValueError, match="two keys at least"):
        CrossAttention(AttentionShape(DIM, 1), AttentionRules(), weight=0.5)
    first = replace(DATA.assets, tokens=DATA.assets.tokens[:, :1], present=DATA.assets.present[:, :1], kinds=KINDS[:1])
    with pytest.raises(ValueError, match="two keys at least"):
        train_fusion(first, DATA.train, DATA.dev, FusionOptions(), weight=0.5, seed=0)


def test_sinusoids_have_sine_and_cosine_of_equal_frequency() -> None:
    table = sinusoids(6, 8)
    np.testing.assert_allclose(table[:, 0::2] ** 2 + table[:, 1::2] ** 2, 1.0, atol=1e-5)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0] * 4))


def test_the_ablation_has_all_minus_each_each_alone_and_none() -> None:
    rows = dict(ablation())
    assert len(rows) == 16
    assert rows["all seven rules"] == AttentionRules()
    assert rows["− 3 levels"] == AttentionRules(levels=False)
    assert rows["2 gate alone"] == AttentionRules.only("gate")
    assert rows["none of the rules"] == AttentionRules.none()


def test_kinds_are_those_of_the_made_assets() -> None:
    assert KINDS.tolist() == [WHOLE, TEXT, IMAGE, IMAGE, NOTHING]
