"""Measures the encoders on a GPU: rates by model, precision and batch, and their share of the device's peak.

    python -m benchmarks.gpu --out docs/gpu.json

It needs no Kafka, Milvus or Ray, and no weights: images go through the package's own encoders with random weights of
the real architectures; passages through the package's own sentence encoder, around random weights of MiniLM's and
BGE-M3's shape. For each image model it also measures the model alone with images that are on the device already: the
difference is the cost of the transfer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.encode import synthetic_input
from benchmarks.flops import device_facts, device_peak, flops
from benchmarks.host_info import machine_facts
from benchmarks.statistics import median
from penstock.encoders.base import Encoder, Fingerprint, Space
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.load import load_encoder
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import JOINT_IMAGE, JOINT_TEXT, PASSAGE_TEXT, SentenceSpec, load_profile
from penstock.encoders.sentence import SentenceEncoder
from penstock.encoders.weights import FolderWeights
from penstock.records import EncoderInput

IMAGE_MODELS = ("ViT-B-32", "ViT-L-14")
# Name, layers, width, heads, inner width: MiniLM-L6 and XLM-RoBERTa large, which BGE-M3 is.
SENTENCE_MODELS = (("MiniLM-L6", 6, 384, 12, 1536), ("BGE-M3", 24, 1024, 16, 4096))
PRECISIONS: Sequence[Precision] = ("fp32", "bf16", "fp16")
BATCHES = (1, 8, 32, 128, 256)
SECONDS = 1.5  # of each measurement, of at least three calls
WORDS = 5_000


@dataclass(frozen=True)
class Meter:
    """Measures at one precision, in comparison with the device's peak there."""

    device: str
    precision: Precision
    peak: float  # FLOP/s
    seconds: float

    def rows(
        self, model: str, role: str, work: int, call_of: Callable[[int], Callable[[int], object]]
    ) -> Iterator[dict[str, Any]]:
        """Yields a row for each size of batch. `call_of` returns the call for a size; each call receives its number."""
        for batch in BATCHES:
            took_s = _call_s(call_of(batch), self.seconds)
            yield {
                "model": model,
                "role": role,
                "precision": self.precision,
                "batch": batch,
                "items_per_s": round(batch / took_s, 1),
                "batch_ms": round(took_s * 1000, 3),
                "gflop_per_item": round(work / 1e9, 2),
                "share_of_peak": round(batch * work / took_s / self.peak, 4),
            }

    def encoder(
        self, model: str, encoder: Encoder, make: Callable[[int, int], EncoderInput]
    ) -> Iterator[dict[str, Any]]:
        """Yields the rows of an encoder, on inputs that `make` creates from a number of items and a seed."""

        def call_of(batch: int) -> Callable[[int], object]:
            inputs = [make(batch, seed) for seed in range(3)]
            return lambda number: encoder.encode(inputs[number % 3])

        return self.rows(model, encoder.name, flops(encoder, make(1, 0)), call_of)

    def tower(self, model: str, encoder: Any, size_px: int, work: int) -> Iterator[dict[str, Any]]:
        """Yields the rows of the tower of an image encoder, with its input on the device."""

        def call_of(batch: int) -> Callable[[int], object]:
            images = torch.randn(batch, 3, size_px, size_px, device=self.device)
            images = images.to(encoder._tower._dtype, memory_format=torch.channels_last)

            def call(_: int) -> None:
                with torch.inference_mode():
                    encoder._tower._tower(images)
                if images.is_cuda:
                    torch.cuda.synchronize()

            return call

        return self.rows(model, "the tower alone", work, call_of)


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="duration of each measurement")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    device = str(arguments.device)
    peaks, rows = {}, []
    for precision in PRECISIONS if device != "cpu" else PRECISIONS[:2]:
        peaks[precision] = device_peak(device, precision)
        for row in _rows(Meter(device, precision, peaks[precision], arguments.seconds)):
            measured = f"{row['model']} {row['role']} {row['precision']} batch {row['batch']}"
            print(f"{measured}: {row['items_per_s']:.0f}/s, {row['share_of_peak']:.1%} of peak", flush=True)
            rows.append(row)
    results = {
        "machine": machine_facts(device=device) | device_facts(device),
        "peak_tflop_per_s": {precision: round(peak / 1e12, 2) for precision, peak in peaks.items()},
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _rows(meter: Meter) -> Iterator[dict[str, Any]]:
    for architecture in IMAGE_MODELS:
        profile = load_profile(f"random:{architecture}")
        for role in (JOINT_IMAGE, JOINT_TEXT):
            encoder = load_encoder(role, profile, precision=meter.precision, device=meter.device, cache_size=0)
            make = partial(synthetic_input, role, profile)
            yield from meter.encoder(architecture, encoder, make)
            if role == JOINT_IMAGE:
                yield from meter.tower(architecture, encoder, profile.image.size_px, flops(encoder, make(1, 0)))
    for name, *shape in SENTENCE_MODELS:
        with tempfile.TemporaryDirectory() as folder:
            yield from meter.encoder(name, _sentence_encoder(name, shape, Path(folder), meter), _passages)


def _call_s(call: Callable[[int], object], seconds: float) -> float:
    """Returns the seconds of the median call, after a warm-up."""
    for number in range(3):
        call(number)
    elapsed_s: list[float] = []
    began_s = time.perf_counter()
    while len(elapsed_s) < 3 or time.perf_counter() - began_s < seconds:
        start_s = time.perf_counter()
        call(len(elapsed_s))
        elapsed_s.append(time.perf_counter() - start_s)
    return median(elapsed_s)


# --- sentence encoders with random weights ----------------------------------------------------------------------------


def _sentence_encoder(name: str, shape: Sequence[int], folder: Path, meter: Meter) -> Encoder:
    """Builds the package's own encoder around a model of that shape, which is written to the folder first."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    layers, width, heads, inner = shape
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*marks, *(f"river{number}" for number in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder / "plain")
    fast.save_pretrained(folder / "plain")
    plain = Transformer(str(folder / "plain"))
    SentenceTransformer(modules=[plain, Pooling(width), Normalize()], device="cpu").save(str(folder / "whole"))
    source = FolderWeights(folder / "whole", "model.safetensors")
    model = SentenceSpec(f"random/{name}", source, Space(name, width), 256)
    identity = Fingerprint(model.name, "random", "random")
    options = EncoderOptions(device=meter.device, precision=meter.precision, cache_size=0, max_items=256)
    return SentenceEncoder(model, identity, options)


def _passages(count: int, seed: int) -> EncoderInput:
    """Returns passages of 120 words that no cache has, each word a token: as long as the package cuts them."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, WORDS, (count, 120), generator=generator).tolist()
    texts = tuple(" ".join(f"river{number}" for number in row) for row in numbers)
    return EncoderInput(PASSAGE_TEXT, tuple(f"{seed}-{row}" for row in range(count)), texts=texts)


if __name__ == "__main__":
    raise SystemExit(main())
