"""Measures the check of sentences: `python -m benchmarks.check [--words-only] [tuning] [KIND…]`.

Prints a line of JSON for each kind of claim: how many were found supported, partly supported, contradicted or
unsupported, and the time of a check in processor milliseconds, which contains no waiting for other processes. The
claims are made from the shipped texts (`tests/query/generate/check/fixtures.py`). Each has its own text and the three
most like it as sources; the vectors of sources are computed before, as they are while a generator writes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.analysis.language_detector import load_detector
from penstock.encoders.load import load_encoders
from penstock.encoders.profiles import PASSAGE_TEXT, load_profile
from penstock.query.generate.check import Encode, SentenceChecker
from penstock.query.generate.types import Support
from penstock.records import EncoderInput, Float32
from tests.query.generate.check.fixtures import Claim, ClaimKind, Half, claims
from tests.query.generate.check.samples import text_sources

PROFILE = "reference"
_FLAGGED = (Support.UNSUPPORTED, Support.CONTRADICTED)


def sentence_encoder() -> Encode:
    """Returns the sentence encoder of the reference profile, on one thread. It keeps the vectors of sources."""
    import torch

    encoder = load_encoders(load_profile(PROFILE), precision="fp32", device="cpu", cache_size=0)[PASSAGE_TEXT]
    torch.set_num_threads(1)
    kept: dict[str, Float32] = {}

    async def encode(texts: Sequence[str]) -> Float32:
        absent = [text for text in texts if text not in kept]
        if absent:
            keys = tuple(str(number) for number in range(len(absent)))
            vectors = encoder.encode(EncoderInput(PASSAGE_TEXT, keys, texts=tuple(absent))).vectors
            if len(texts) == 1:
                return vectors  # a sentence of the answer, which is encoded each time
            kept.update(zip(absent, vectors, strict=True))
        return np.stack([kept[text] for text in texts])

    return encode


async def measure(kind: ClaimKind, among: Sequence[Claim], checker: SentenceChecker) -> dict[str, Any]:
    """Returns the figures of one kind of claim."""
    supports: Counter[Support] = Counter()
    times_ms: list[float] = []
    for claim in among:
        read = await checker.read(text_sources(claim.sources))
        await read.vectors(60)
        started = time.process_time()
        supports[(await checker.check(claim.text, [claim.cited], read)).support] += 1
        times_ms.append((time.process_time() - started) * 1e3)
    times_ms.sort()
    count = len(among)
    return {
        "kind": kind,
        "claims": count,
        "left_out": round(sum(supports[support] for support in _FLAGGED) / count, 3),
        "not_supported": round(sum(supports[support] for support in (Support.PARTLY, *_FLAGGED)) / count, 3),
        **{support: supports[support] for support in Support},
        "cpu_p50_ms": round(times_ms[count // 2], 2),
        "cpu_p95_ms": round(times_ms[count * 95 // 100], 2),
    }


async def run(half: Half, kinds: Sequence[ClaimKind], *, words_only: bool) -> None:
    """Prints the figures of kinds of claims."""
    checker = SentenceChecker(None if words_only else sentence_encoder(), encoder_timeout_s=60)
    for kind in kinds:
        print(json.dumps(await measure(kind, claims(kind, half), checker)), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measures the half of the texts that is reported, or the one that rules were tuned on."""
    load_detector()
    half = Half.TUNING if "tuning" in arguments else Half.REPORTED
    kinds = [kind for kind in ClaimKind if kind in arguments] or list(ClaimKind)
    asyncio.run(run(half, kinds, words_only="--words-only" in arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
