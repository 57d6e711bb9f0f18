from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import encode
from benchmarks.encode import EncodePlan, bench_encode, in_torch, speech_windows, synthetic_input
from benchmarks.flops import flops
from benchmarks.whisper_flops import whisper_size
from penstock.cli.main import main
from penstock.encoders.load import load_encoder, load_transcriber
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, SPEECH, SpeechSpec, load_profile
from penstock.encoders.reference.speech_model import SPEECH_DIR, SPEECH_MODEL


def silent(_line: str) -> None:
    pass


def test_every_encoder_is_measured_at_every_batch_size() -> None:
    figures = bench_encode(EncodePlan("null:32", batches=(1, 4), precisions=("fp32",), seconds=0.01), silent)
    assert [(row["role"], row["batch"]) for row in figures["rows"]] == [
        (role, batch) for role in load_profile("null:32").roles for batch in (1, 4)
    ]
    for row in figures["rows"]:
        assert row["items_per_s"] == pytest.approx(row["batch"] / row["batch_ms"] * 1000)


def test_an_encoder_that_computes_nothing_has_no_share_of_a_peak() -> None:
    figures = bench_encode(EncodePlan("null:32", batches=(1,), precisions=("fp32",), seconds=0.01), silent)
    assert {row["share_of_peak"] for row in figures["rows"]} == {None}
    assert {row["no_share"] for row in figures["rows"]} == {"there is no model that computes"}
    assert figures["peak_gflop_per_s"] == {}


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The figures of the encoders of `reference` in fp32, at two batch sizes."""
    return bench_encode(EncodePlan("reference", batches=(1, 3), precisions=("fp32",), seconds=0.01), silent)


def test_a_real_encoder_has_a_share_of_the_peak(measured: dict[str, Any]) -> None:
    roles = [(row["role"], row["batch"]) for row in measured["rows"]]
    assert roles == [(role, batch) for role in (PASSAGE_TEXT, JOINT_IMAGE, SPEECH) for batch in (1, 3)]
    speech = measured["rows"][-1]
    assert all(0 < row["share_of_peak"] < 1.5 for row in measured["rows"])
    assert {row["no_share"] for row in measured["rows"]} == {None}
    assert speech["media_hours_per_hour"] == pytest.approx(30 * speech["items_per_s"])
    assert measured["peak_gflop_per_s"].keys() == {"fp32"}


def test_the_transcribers_share_counts_its_decoder_and_its_retries(measured: dict[str, Any]) -> None:
    """Its encoder alone takes 5.6 GFLOP for 30 s; the decoder and retries come on top."""
    *_, alone, speech = measured["rows"]
    encoder_alone = whisper_size(SPEECH_DIR / SPEECH_MODEL).encoder_flops(3_000) / 1e9
    assert encoder_alone < speech["gflop_per_item"] < 10 * encoder_alone
    assert speech["gflop_per_item"] == pytest.approx(alone["gflop_per_item"], rel=0.2)  # each window is counted once
    per_s = speech["gflop_per_item"] * speech["items_per_s"]
    assert speech["share_of_peak"] == pytest.approx(per_s / measured["peak_gflop_per_s"]["fp32"])


def test_speech_windows_last_thirty_seconds_and_differ() -> None:
    windows = speech_windows(6, seed=1)
    first = windows[0]
    assert {window.shape for window in windows} == {(480_000,)}
    assert {window.dtype for window in windows} == {np.dtype(np.float32)}
    assert all((first != other).any() for other in (*windows[1:], *speech_windows(2, seed=2)))


def test_speech_windows_are_transcribed_at_the_first_attempt_and_are_no_repetition() -> None:
    transcriber = load_transcriber(load_profile("reference"), precision="fp32", device="cpu")
    transcripts = transcriber.transcribe(speech_windows(8, seed=3))
    assert all(transcript.segments for transcript in transcripts)


def test_with_auto_the_transcriber_has_its_own_format_and_is_compared_with_that_formats_peak() -> None:
    """CTranslate2 has no bf16 on a CPU, which `auto` selects for the encoders where there is AVX512-BF16."""
    plan = EncodePlan("reference", batches=(1,), precisions=("auto",), device="cpu", seconds=0.01)
    figures = bench_encode(plan, silent)
    assert figures["rows"][-1]["precision"] == "fp32"
    assert "fp32" in figures["peak_gflop_per_s"]
    assert figures["left_out"] == []


def test_a_format_that_the_transcriber_lacks_leaves_out_the_transcriber_alone() -> None:
    lines: list[str] = []
    plan = EncodePlan("reference", batches=(1,), precisions=("bf16",), device="cpu", seconds=0.01)
    figures = bench_encode(plan, lines.append)
    assert [row["role"] for row in figures["rows"]] == [PASSAGE_TEXT, JOINT_IMAGE]
    (line,) = figures["left_out"]
    assert line in lines
    assert "speech bf16" in line


def test_integers_have_no_share_of_a_peak_of_floats() -> None:
    profile = load_profile("reference")
    assert isinstance(profile.speech, SpeechSpec)
    of_integers = replace(profile, speech=replace(profile.speech, cpu_type="int8"))
    assert isinstance(of_integers.speech, SpeechSpec)
    plan = EncodePlan("reference", batches=(1,), seconds=0.01)
    (row,) = encode._speech_rows(of_integers, of_integers.speech, "auto", encode._Peaks("cpu"), plan)
    assert row.share_of_peak is None
    assert row.gflop_per_item > 0
    assert row.no_share is not None
    assert "int8" in row.no_share


def test_weights_with_unreadable_shapes_leave_the_share_out_and_give_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(weights: Path) -> None:
        raise ValueError(f"{weights.name} is no Whisper")

    monkeypatch.setattr(encode, "whisper_size", unreadable)
    figures = bench_encode(EncodePlan("reference", batches=(1,), precisions=("fp32",), seconds=0.01), silent)
    speech = figures["rows"][-1]
    assert speech["share_of_peak"] is None
    assert speech["no_share"] == "its operations cannot be calculated: model.bin is no Whisper"


def test_work_grows_with_the_batch_and_attention_is_counted() -> None:
    """MiniLM: 6 layers of 12·384² weights, each used twice a token, and 4·tokens·384 for attention."""
    profile = in_torch(load_profile("reference"))
    encoder = load_encoder(PASSAGE_TEXT, profile, precision="fp32", device="cpu", cache_size=0)
    single = flops(encoder, synthetic_input(PASSAGE_TEXT, profile, 1, 0))
    tokens = single / (6 * 2 * 12 * 384**2)
    assert 100 < tokens < 160
    assert single < flops(encoder, synthetic_input(PASSAGE_TEXT, profile, 3, 0)) < 3.5 * single


def test_no_two_inputs_are_the_same_to_a_cache() -> None:
    profile = load_profile("null")
    first, second = (synthetic_input(JOINT_IMAGE, profile, 3, seed) for seed in (0, 1))
    assert not set(first.keys) & set(second.keys)
    assert first.pixels is not None
    assert second.pixels is not None
    assert (first.pixels != second.pixels).any()


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "null", "bench", "encode", "--batch", "2", "--seconds", "0.1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["machine"]["cores"] >= 1
    assert {row["batch"] for row in figures["rows"]} == {2}


def test_the_table_gives_the_reason_where_a_row_has_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "null", "bench", "encode", "--batch", "1", "--batch", "2", "--seconds", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    reasons = [line for line in lines if "no share of the peak, as there is no model that computes" in line]
    assert len(reasons) == len(load_profile("null").roles)
    assert not any("no_share" in line for line in lines)
