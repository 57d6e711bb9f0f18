"""Measures indexes of vectors on Milvus Lite, the cache of questions, batches, and an encoder in int8."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from penstock.config import StoreSettings
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.encoders.cache import VectorCache
from penstock.encoders.profiles import SentenceSpec
from penstock.encoders.sentence_model import PlainBert
from penstock.encoders.weights import RandomWeights, locate
from penstock.evaluate.datasets import read_set
from penstock.evaluate.intervals import bootstrap, randomisation_p
from penstock.evaluate.metrics import NDCG
from penstock.records import Float32, Modality
from penstock.store.milvus.trials import MilvusTrials
from penstock.train.compression.codes import FP32
from penstock.train.compression.measure import CompressionData, read_channel
from penstock.train.compression.reductions import normalised
from penstock.train.fusion.measure import use_one_thread
from penstock.tune.directions import Bank, banks_of_set, grown, joined
from penstock.tune.measure import DirectionFigures
from penstock.tune.plot import draw
from penstock.tune.run import TuneOptions, TuneResult, tune
from tools.measure_retrieval.experiment_tables import DRAWS, SEED, Sources
from tools.measure_retrieval.experiments import Table

PLOT = Path(__file__).parents[2] / "docs" / "plots" / "tune-lite.svg"
TARGET_RECALL = 0.95
# What 30 minutes for all blocks leave room for; 50,000 by `penstock tune --grow 50000`.
INDEXED = 20_000
INDEX_QUERIES = 100
LIMIT = 10  # of a search: beams below the 50 entries of a query plane show where recall breaks
IMAGE_SETS = ("foods", "clipart", "emoji_twitter")
TEXT_SET = "wordnet"
CAPACITIES = (0, 1_000, 10_000)
EXPONENTS = (0.0, 0.7, 1.1)
BATCHES = (1, 8, 32)
ROUNDS = 12


def indexes(sources: Sources) -> Iterator[Table]:
    """Yields the indexes of Milvus Lite in every direction, and what the chosen one gives with filters and cold."""
    banks = _banks(sources)
    if not banks:
        return
    with tempfile.TemporaryDirectory(prefix="penstock-measure-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedMilvus(Path(folder) / "lite")
        try:
            trials = MilvusTrials(StoreSettings(uri=server.start()))
            options = TuneOptions(TARGET_RECALL, LIMIT, quick=True)
            result = tune(trials, banks, options)
            trials.close()
        finally:
            server.stop()
    title = f"{result.product}, {INDEXED:,} vectors of each channel, {LIMIT} entries a search"
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(draw(result.candidates, TARGET_RECALL, result.chosen, title=title), encoding="utf-8")
    yield from _index_tables(result)


def serving(sources: Sources) -> Iterator[Table]:
    """Yields the hit rates of the cache of questions, the speed of batches, and an encoder in int8."""
    profile = sources.profile("reference")
    if profile is None or not sources.has(TEXT_SET) or not isinstance(profile.passage, SentenceSpec):
        return
    spec = profile.passage
    if isinstance(spec.source, RandomWeights):
        return
    use_one_thread()
    located = locate(spec.source, spec.name)
    whole = PlainBert(located.folder, located.weights, spec.max_tokens, "fp32", "cpu")
    models = {"fp32": whole, "int8": whole.in_int8()}
    data = read_channel(read_set(sources.sets / TEXT_SET), sources.files(profile), modality=Modality.TEXT)
    questions = [query.text for query in data.dataset.queries]
    single_ms = _encoding_ms(whole, questions, 1)
    yield _cache_table(single_ms)
    yield _batch_table(models, questions)
    yield _int8_table(models["int8"], data, questions)


def _banks(sources: Sources) -> list[Bank]:
    profile = sources.profile("shelf") or sources.profile("reference")
    names = [name for name in (*IMAGE_SETS, TEXT_SET) if sources.has(name)]
    if profile is None or not names:
        return []
    stored = sources.files(profile)
    banks = joined(
        [
            bank
            for name in names
            for bank in banks_of_set(read_set(sources.sets / name), stored, max_queries=INDEX_QUERIES, seed=SEED)
        ],
        max_queries=INDEX_QUERIES,
        seed=SEED,
    )
    return [grown(bank, INDEXED, seed=SEED) for bank in banks]


def _index_tables(result: TuneResult) -> Iterator[Table]:
    columns = ("index", "bytes", "build, s", "direction", "recall@10", "worst 5 %", "p50, ms", "p95, ms", "per s")
    rows = [
        [point.name, f"{point.bytes:,}", f"{point.build_s:.1f}", name, *_cells(figures)]
        for point in result.points
        for name, figures in point.figures.items()
    ]
    chosen = "none" if result.chosen is None else result.chosen.name
    caption = (
        f"Cheapest with recall@10 of at least {TARGET_RECALL} in every direction: **{chosen}**. "
        f"![recall against time](plots/{PLOT.name})"
    )
    yield Table(f"{result.product}, {INDEXED:,} vectors", columns, rows, caption)
    if result.conditions:
        conditions = [[row.direction, row.condition, *_cells(row.figures)] for row in result.conditions]
        yield Table(f"filters and cold starts of {chosen}", ("direction", "condition", *columns[4:]), conditions)


def _cells(figures: DirectionFigures) -> list[str]:
    return [
        f"{figures.recall:.3f}",
        f"{figures.worst:.2f}",
        f"{figures.p50_ms:.1f}",
        f"{figures.p95_ms:.1f}",
        f"{figures.per_s:.0f}",
    ]


def _cache_table(single_ms: float) -> Table:
    """Returns hit rates of the real cache for questions drawn by Zipf's law, and what encoding then takes."""
    questions_drawn, distinct = 50_000, 20_000
    rows = []
    for exponent in EXPONENTS:
        weights = np.arange(1, distinct + 1) ** -exponent
        drawn = np.random.default_rng(SEED).choice(distinct, size=questions_drawn, p=weights / weights.sum())
        for capacity in CAPACITIES:
            share = _hit_rate(drawn, capacity)
            rows.append([
                f"{exponent:g}", f"{capacity:,}", f"{share:.1%}", f"{(1 - share) * single_ms:.2f}",
                "1.0" if share == 1 else f"{1 / (1 - share):.1f}",
            ])  # fmt: skip
    caption = (
        f"{questions_drawn:,} questions, {distinct:,} distinct ones; encoding one takes {single_ms:.1f} ms of CPU."
    )
    columns = ("Zipf exponent", "vectors kept", "hits", "mean encoding, ms", "as fast as without, times")
    return Table("cache of questions", columns, rows, caption)


def _hit_rate(drawn: Sequence[int] | np.ndarray, capacity: int) -> float:
    cache: VectorCache[int] = VectorCache(capacity)
    vector = np.zeros(1, dtype=np.float32)
    for question in np.asarray(drawn).tolist():
        if cache.get(question) is None:
            cache.store(question, vector)
    return cache.hits / (cache.hits + cache.misses)


def _batch_table(models: dict[str, PlainBert], questions: Sequence[str]) -> Table:
    rows = []
    for name, model in models.items():
        for size in BATCHES:
            each_ms = _encoding_ms(model, questions, size)
            rows.append([name, str(size), f"{each_ms:.2f}", f"{1000 / each_ms:,.0f}"])
    columns = ("weights", "batch", "CPU of a question, ms", "questions per second of CPU")
    return Table("batches of questions", columns, rows, "MiniLM, one thread; medians of a dozen batches.")


def _encoding_ms(model: PlainBert, questions: Sequence[str], size: int) -> float:
    """Returns the milliseconds of CPU that a question takes in batches of a size: the median of some batches."""
    model.vectors(questions[:size])
    times_ms = []
    for number in range(ROUNDS):
        batch = questions[number * size : (number + 1) * size]
        started = time.process_time()
        model.vectors(batch)
        times_ms.append((time.process_time() - started) * 1000 / size)
    return float(np.median(times_ms))


def _int8_table(model: PlainBert, data: CompressionData, questions: Sequence[str]) -> Table:
    """Returns nDCG@10 of the passages with questions, and with both, encoded in int8."""
    of_questions = _encoded(model, [questions[row] for row in data.test.tolist()])
    documents = _encoded(model, [data.dataset.documents[row].text for row in data.rows.tolist()])
    all_queries = data.queries.copy()
    all_queries[data.test] = of_questions
    groups = data.dataset.query_groups[data.test]
    base = data.figures(None, FP32, data.test)[NDCG]
    tried = {
        "fp32": data,
        "questions in int8": replace(data, queries=all_queries),
        "questions and passages in int8": replace(data, queries=all_queries, documents=documents),
    }
    rows = []
    for name, vectors in tried.items():
        values = vectors.figures(None, FP32, data.test)[NDCG]
        intervals = bootstrap({NDCG: values, "Δ": values - base}, groups, draws=DRAWS, seed=SEED)
        figure, delta = intervals[NDCG], intervals["Δ"]
        rows.append([
            name, f"{100 * figure.mean:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]",
            f"{100 * delta.mean:+.2f} [{100 * delta.low:+.2f}, {100 * delta.high:+.2f}]",
            f"{randomisation_p(values - base, groups, draws=DRAWS, seed=SEED):.4f}",
        ])  # fmt: skip
    caption = (
        "Weights of the layers in int8, values between them in fp32. Recipes promise 3.4 times the speed for INT8 and "
        "2.1 times for a cache of keys and values: those are about generating text, which is none of this."
    )
    return Table(f"an encoder in int8, {data.dataset.name}", ("encoded", NDCG, f"Δ {NDCG}", "p"), rows, caption)


def _encoded(model: PlainBert, texts: Sequence[str]) -> Float32:
    """Returns float32[texts, dim], L2-normalised; texts of about equal length share a batch."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = [model.vectors([texts[row] for row in order[start : start + 32]]) for start in range(0, len(order), 32)]
    vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return normalised(vectors)
