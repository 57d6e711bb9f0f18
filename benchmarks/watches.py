"""Measures what watches cost the evaluator: CPU time of new entries against many watches.

    python -m benchmarks.watches [--watches 1000] [--entries 50] [--rounds 5]

Random vectors of 384 dimensions and texts of random words, over a store in memory with 2,000 entries. Prints JSON: CPU
milliseconds to find the candidates of a batch, by comparing it with all watches. Judging a candidate adds the searches
that the store answers.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.config import QuerySettings
from penstock.query.types import Rankings, SearchRequest
from penstock.query.understand.validate import validate
from penstock.query.watches.context import WatchContext
from penstock.query.watches.matching import candidates_of
from penstock.records import AssetRef, Channel, Collection, Entry, Field, Float32, Watch, bare_entry

_DIM = 384
_WORDS = 20_000
_PASSAGE, _LEXICAL = Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.TEXT, Field.LEXICAL)
# One of 2,000 random entries reaches this cosine with a watch.
_CUTOFF = 0.17


def main() -> None:
    """Runs the benchmark, as the module's docstring says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watches", description=__doc__)
    parser.add_argument("--watches", type=int, default=1_000)
    parser.add_argument("--entries", type=int, default=50, help="new entries of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator, words = np.random.default_rng(0), random.Random(0)
    contexts = [_context(number, generator, words) for number in range(options.watches)]
    cpu_s, pairs = 0.0, 0
    for _ in range(options.rounds):
        entries = _entries(options.entries, generator, words)
        began_s = time.process_time()
        pairs += sum(map(len, candidates_of(contexts, entries).values()))
        cpu_s += time.process_time() - began_s
    result = {
        "watches": options.watches,
        "entries": options.entries,
        "cpu_ms_per_batch": round(cpu_s / options.rounds * 1e3, 1),
        "candidates_per_batch": pairs / options.rounds,
    }
    print(json.dumps(result, indent=2))


def _context(number: int, generator: np.random.Generator, words: random.Random) -> WatchContext:
    text = _text(words, 5)
    watch = Watch(f"{number:032x}", text, "default", 0.5, 0, {"text": text})
    query = validate(SearchRequest(text=text, min_relevance=0.5), QuerySettings())
    rankings = Rankings({}, {}, {}, {})
    vectors = {_PASSAGE: _vector(generator)}
    terms = frozenset(text.split())
    return WatchContext(watch, query, vectors, (_LEXICAL,), rankings, {_PASSAGE: _CUTOFF}, terms, float("inf"))


def _entries(count: int, generator: np.random.Generator, words: random.Random) -> Sequence[Entry]:
    return [
        replace(
            bare_entry(AssetRef("default", "media.text", str(number)), Collection.TEXT),
            text=_text(words, 120),
            vectors={Field.PASSAGE: _vector(generator)},
        )
        for number in range(count)
    ]


def _text(words: random.Random, count: int) -> str:
    return " ".join(f"w{int(_WORDS * words.random() ** 2)}" for _ in range(count))


def _vector(generator: np.random.Generator) -> Float32:
    vector = generator.normal(size=_DIM).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


if __name__ == "__main__":
    main()
