from __future__ import annotations

import json

import pytest

from penstock.bench.encode import EncodePlan, bench_encode, some_input
from penstock.cli.main import main
from penstock.encoders.load import load_encoder
from penstock.encoders.measure import flops
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, SPEECH, load_profile


def silent(_line: str) -> None:
    pass


def test_every_encoder_is_measured_at_every_batch_size() -> None:
    found = bench_encode(EncodePlan("null:32", batches=(1, 4), precisions=("fp32",), seconds=0.01), silent)
    assert [(row["role"], row["batch"]) for row in found["rows"]] == [
        (role, batch) for role in load_profile("null:32").roles for batch in (1, 4)
    ]
    for row in found["rows"]:
        assert row["items_per_s"] == pytest.approx(row["batch"] / row["batch_ms"] * 1000)


def test_an_encoder_that_computes_nothing_has_no_share_of_a_peak() -> None:
    found = bench_encode(EncodePlan("null:32", batches=(1,), precisions=("fp32",), seconds=0.01), silent)
    assert {row["share_of_peak"] for row in found["rows"]} == {None}
    assert found["peak_gflop_per_s"] == {}


def test_a_real_encoder_has_one() -> None:
    found = bench_encode(EncodePlan("reference", batches=(2,), precisions=("fp32",), seconds=0.01), silent)
    assert [row["role"] for row in found["rows"]] == [PASSAGE_TEXT, JOINT_IMAGE, SPEECH]
    *encoders, speech = found["rows"]
    assert all(0 < row["share_of_peak"] < 1.5 for row in encoders)
    assert speech["media_hours_per_hour"] == pytest.approx(30 * speech["items_per_s"])
    assert found["peak_gflop_per_s"].keys() == {"fp32"}


def test_work_grows_with_the_batch_and_attention_is_counted() -> None:
    """MiniLM: 6 layers of 12·384² weights, each used twice a token, and 4·tokens·384 for attention."""
    profile = load_profile("reference")
    encoder = load_encoder(PASSAGE_TEXT, profile, precision="fp32", device="cpu", cache_size=0)
    one = flops(encoder, some_input(PASSAGE_TEXT, profile, 1, 0))
    tokens = one / (6 * 2 * 12 * 384**2)
    assert 100 < tokens < 160
    assert one < flops(encoder, some_input(PASSAGE_TEXT, profile, 3, 0)) < 3.5 * one


def test_no_two_inputs_are_the_same_to_a_cache() -> None:
    profile = load_profile("null")
    first, second = (some_input(JOINT_IMAGE, profile, 3, seed) for seed in (0, 1))
    assert not set(first.keys) & set(second.keys)
    assert first.pixels is not None
    assert second.pixels is not None
    assert (first.pixels != second.pixels).any()


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "null", "bench", "encode", "--batch", "2", "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["cores"] >= 1
    assert {row["batch"] for row in found["rows"]} == {2}
