"""Tests that only a GPU can run; without one they are skipped. They need neither weights nor servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from benchmarks.encode import synthetic_input
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, JOINT_TEXT, load_profile
from penstock.records import EncoderInput, Float32

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PROFILE = load_profile("random:ViT-B-32")


def encoder(role: str, precision: str, device: str = "cuda") -> Encoder:
    return load_encoder(role, PROFILE, precision=precision, device=device, cache_size=0)


@pytest.fixture(scope="module")
def images() -> EncoderInput:
    return synthetic_input(JOINT_IMAGE, PROFILE, 96, 1)


@pytest.fixture(scope="module")
def expected(images: EncoderInput) -> Float32:
    """By the CPU in 32-bit floats."""
    return encoder(JOINT_IMAGE, "fp32", "cpu").encode(images).vectors


@pytest.fixture
def short_memory() -> Iterator[None]:
    """Leaves this process about 4 % of the device."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.04)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize(("precision", "min_cosine"), [("fp32", 0.99999), ("bf16", 0.999), ("fp16", 0.9999)])
def test_a_gpu_computes_the_vectors_that_a_cpu_computes(
    precision: str, min_cosine: float, images: EncoderInput, expected: Float32
) -> None:
    vectors = encoder(JOINT_IMAGE, precision).encode(images).vectors
    assert (vectors * expected).sum(axis=1).min() > min_cosine


def test_a_gpu_computes_text_vectors_as_a_cpu_does() -> None:
    texts = synthetic_input(JOINT_TEXT, PROFILE, 8, 1)
    on_cpu = encoder(JOINT_TEXT, "fp32", "cpu").encode(texts).vectors
    assert (encoder(JOINT_TEXT, "bf16").encode(texts).vectors * on_cpu).sum(axis=1).min() > 0.999


def test_every_image_gets_its_own_vector_batch_after_batch(images: EncoderInput, expected: Float32) -> None:
    """Copies to the device are asynchronous: none may meet pixels of the previous batch."""
    loaded = encoder(JOINT_IMAGE, "fp16")
    choose = np.random.default_rng(0)
    for _ in range(20):
        rows = choose.permutation(len(images))[: choose.integers(1, len(images))]
        vectors = loaded.encode(part(images, rows.tolist())).vectors
        assert (vectors * expected[rows]).sum(axis=1).min() > 0.9999


def part(batch: EncoderInput, rows: Sequence[int]) -> EncoderInput:
    assert batch.pixels is not None
    return EncoderInput(batch.encoder, tuple(batch.keys[row] for row in rows), pixels=batch.pixels[list(rows)])


@pytest.mark.usefixtures("short_memory")
def test_a_batch_that_does_not_fit_is_halved_and_no_item_fails() -> None:
    total_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.2 / total_gb))
    loaded = encoder(JOINT_IMAGE, "fp32")
    batch = synthetic_input(JOINT_IMAGE, PROFILE, 256, 2)
    encoded = loaded.encode(batch)
    assert not encoded.failed
    torch.cuda.set_per_process_memory_fraction(1.0)
    whole = encoder(JOINT_IMAGE, "fp32").encode(batch)
    assert (encoded.vectors * whole.vectors).sum(axis=1).min() > 0.99999
    assert torch.cuda.memory_stats()["num_ooms"] > 0


def test_a_device_that_is_gone_breaks_the_worker_and_rejects_no_image() -> None:
    """In a process of its own: after an assertion on the device nothing there works again."""
    script = """
import torch
from benchmarks.encode import synthetic_input
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.errors import WorkerBrokenError
profile = load_profile("random:ViT-B-32")
encoder = load_encoder(JOINT_IMAGE, profile, device="cuda", cache_size=0)
batch = synthetic_input(JOINT_IMAGE, profile, 4, 0)
encoder.encode(batch)
try:
    torch.zeros(2, device="cuda")[torch.tensor([7], device="cuda")].cpu()
except Exception:
    pass
try:
    encoder.encode(synthetic_input(JOINT_IMAGE, profile, 4, 1))
except WorkerBrokenError as exc:
    print("broken:", exc)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert "broken: the encoder's device failed" in ran.stdout, ran.stderr[-2000:]
