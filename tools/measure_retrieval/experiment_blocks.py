"""Names the blocks of experiments, and measures them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from tools.measure_retrieval.experiment_tables import Sources, compression, learned_fusion, reranking
from tools.measure_retrieval.experiments import Experiment, Table
from tools.measure_retrieval.serving_tables import indexes, serving

EXPERIMENTS: Mapping[str, tuple[str, str, Callable[[Sources], Iterator[Table]]]] = {
    "G": (
        "Learned fusion",
        "What makes one score of the vectors of an asset that has a text and images: sums, gates, and cross-attention "
        "with seven rules, each off, alone, and left out. `p95` is the computing time for 50 candidates of one "
        "question, with one thread. `masking`: in how many cases masking the token with the largest weight changes the "
        "score more than masking another one; below 80 % weights are no explanation, and are not shown. Recipes "
        "promise 85.6 against 78.3 % for the gate over average pooling and 12 % for positions, without naming a data "
        "set. There is no set of moments here, so that levels and positions are those of texts and images.",
        learned_fusion,
    ),
    "H": (
        "Reranking",
        "The model that the profile reranks with, MaxSim over its sentence encoder, on the first documents of the "
        "default fusion. No package of the index ships the weights of a cross-encoder; a recipe promises MRR@10 "
        "0.72 to 0.81 at 15 to 85 ms for ms-marco-MiniLM-L-6-v2, without naming a data set. Milliseconds are of one "
        "question with passages that were read before.",
        reranking,
    ),
    "I": (
        "Compression",
        "One channel alone, exactly searched. Reductions are fitted to documents and questions of train; the head's "
        "end is chosen by dev. Differences are to whole vectors of four bytes a dimension.",
        compression,
    ),
    "J": (
        "Indexes of vectors",
        "What an index finds of what an exact search finds, by the modality of the question: words lie outside of what "
        "connects images. Questions and vectors are of the sets here; vectors beyond theirs are made between real ones "
        "that resemble each other. Bytes are computed, times are of one client on a shared machine. "
        "`penstock tune` does the same for an index of one's own.",
        indexes,
    ),
    "K": (
        "Serving",
        "What the cache of questions, batches and an encoder in int8 are worth.",
        serving,
    ),
}


def run_experiment(letter: str, sources: Sources, *, command: str) -> Experiment | None:
    """Measures one block; None if nothing that it needs is there."""
    title, caption, measured = EXPERIMENTS[letter]
    started = time.perf_counter()
    tables = list(measured(sources))
    if not tables:
        return None
    return Experiment(letter, title, caption, command, round(time.perf_counter() - started, 1), tables)
