"""Measures the click memory on an evaluation set, and fits the click channel of the shipped calibrations.

python -m tools.measure_clicks --set SETS/mixed --profile shelf --vectors FOLDER [--fit FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.encoders.questions import question_encoder
from penstock.evaluate.clicks import (
    AskableSet,
    RememberingFusion,
    SimulatedClicks,
    plant_clicks,
    recall_offline,
    simulate_clicks,
)
from penstock.evaluate.datasets import read_set
from penstock.evaluate.fusions import open_fusion, shares_of
from penstock.evaluate.offline import SetRankings, fuse_offline, search_offline
from penstock.evaluate.vectors import VectorFiles
from penstock.query.calibrations import SHIPPED
from penstock.query.clicks.guards import ClickRules
from penstock.query.fusion.calibration import Calibration, ChannelCalibration, read_calibration, write_calibration
from penstock.query.types import FuseOptions
from penstock.records import Choice, Field, question_digest
from penstock.train.clicks import JudgedQuestion, fit_click_channel

Rows = npt.NDArray[np.int64]
_SEEDS = 5
_TOP = 10


@dataclass(frozen=True)
class Bench:
    """Holds what the rows of the table share."""

    askable: AskableSet
    rankings: SetRankings
    calibration: Calibration

    def ranks(self, choices: Sequence[Choice], rules: ClickRules, queries: Rows, *, weight: float = 1.0) -> Ranks:
        """Returns the rank of every document for some queries, by the fusion of a query plane with these choices."""
        known = self.calibration.clicked
        recalled = {} if known is None else recall_offline(self.askable, choices, known.score_map, rules)
        fusion = open_fusion(FuseOptions(clicked=weight), self.calibration, shares_of(self.askable.dataset))
        run = fuse_offline(
            self.rankings, RememberingFusion(fusion, recalled), queries=queries, limit=len(self.askable.entries)
        ).run
        return [
            {row: place for place, row in enumerate(of_query, start=1) if row >= 0}
            for of_query in run.documents.tolist()
        ]


Ranks = list[dict[int, int]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table as Markdown, and writes the calibration with its click channel if that is wanted."""
    options = _options(arguments)
    if options.fit is not None:
        write_calibration(open_bench(options.set, options.profile, options.vectors).calibration, options.fit)
        return
    rows = measure(options.set, options.profile, options.vectors, clicks=options.clicks)
    print(json.dumps(rows, indent=1) if options.json else _markdown(rows))


def open_bench(folder: Path, profile_name: str, vectors_folder: Path) -> Bench:
    """Returns a set with the shipped calibration, whose click channel is fitted to the splits train and dev."""
    profile = load_profile(profile_name)
    vectors = VectorFiles(vectors_folder, profile, threads=1)
    dataset = read_set(folder)
    rankings = search_offline(dataset, vectors)
    of_queries = vectors.texts(profile.query_encoder(Field.PASSAGE), [query.text for query in dataset.queries])
    askable = AskableSet(dataset, rankings.entries, of_queries)
    encoder = question_encoder(profile, profile_fingerprints(profile))
    to_fit = np.flatnonzero(np.isin(dataset.query_splits, ("train", "dev")))
    calibration = read_calibration(SHIPPED / f"{Path(profile.name).stem}.json")
    calibration = replace(calibration, clicked=fit_by_simulation(askable, to_fit, encoder))
    return Bench(askable, rankings, calibration)


def measure(folder: Path, profile: str, vectors: Path, *, clicks: int) -> list[Mapping[str, object]]:
    """Returns the rows of the table, of the split test, as means of five draws."""
    bench = open_bench(folder, profile, vectors)
    return _rows(bench, np.flatnonzero(bench.askable.dataset.query_splits == "test"), clicks=clicks)


def fit_by_simulation(askable: AskableSet, queries: Rows, encoder: str) -> ChannelCalibration:
    """Returns the click channel, fitted to choices and later questions of these queries alone."""
    past: list[Choice] = []
    judged: list[JudgedQuestion] = []
    simulated = simulate_clicks(askable, queries, clicks=len(queries), voters_of_pair=1, seed=0)
    past += simulated.choices
    for query in queries[~simulated.is_past[queries]].tolist():
        right = frozenset(askable.entries[row].id for row in askable.dataset.judgements.rows_of(query).tolist())
        digest = question_digest(askable.dataset.queries[query].text)
        judged.append(JudgedQuestion(askable.vectors[query], "default", right, digest))
    return fit_click_channel(past, judged, encoder)


def _rows(bench: Bench, test: Rows, *, clicks: int) -> list[Mapping[str, object]]:
    settings: list[tuple[str, ClickRules, int, float]] = [
        ("two have to agree (shipped)", ClickRules(2, 90.0), 2, 1.0),
        ("one is enough", ClickRules(1, 90.0), 1, 1.0),
        *((f"two, weight {weight:g}", ClickRules(2, 90.0), 2, weight) for weight in (0.25, 0.5, 2.0, 4.0)),
    ]
    rows: list[Mapping[str, object]] = []
    everywhere = np.arange(len(bench.askable.dataset.queries))
    for name, rules, voters, weight in settings:
        values: dict[str, list[float]] = {}
        for seed in range(_SEEDS):
            simulated = simulate_clicks(bench.askable, everywhere, clicks=clicks, voters_of_pair=voters, seed=seed)
            for slice_, (before, after) in _slices(bench, simulated, rules, test, weight=weight).items():
                values.setdefault(f"{slice_} before", []).append(before)
                values.setdefault(f"{slice_} after", []).append(after)
        rows.append({"rule": name, **{key: float(np.mean(numbers)) for key, numbers in values.items()}})
    rows.append(_planted(bench, test, clicks=clicks))
    return rows


def _slices(
    bench: Bench, simulated: SimulatedClicks, rules: ClickRules, test: Rows, *, weight: float
) -> dict[str, tuple[float, float]]:
    """Returns MRR@10 without and with the memory, of three kinds of later questions."""
    later = test[~simulated.is_past[test]]
    right_of = bench.askable.dataset.judgements.rows_of
    without, with_ = (bench.ranks(choices, rules, later, weight=weight) for choices in ([], simulated.choices))
    chosen_of = [[row for row in right_of(int(query)).tolist() if row in simulated.chosen] for query in later]
    other_of = [[row for row in right_of(int(query)).tolist() if row not in simulated.chosen] for query in later]
    kinds: dict[str, Callable[[int], list[int]]] = {
        "same asset, other words": lambda at: chosen_of[at],
        "other asset of a chosen concept": lambda at: other_of[at] if chosen_of[at] else [],
        "never chosen": lambda at: [] if chosen_of[at] else other_of[at],
    }
    return {name: (_mrr(without, rows_at), _mrr(with_, rows_at)) for name, rows_at in kinds.items()}


def _mrr(ranks: Ranks, rows_at: Callable[[int], list[int]]) -> float:
    values = []
    for at, of_query in enumerate(ranks):
        if rows := rows_at(at):
            best = min(of_query.get(row, _TOP + 1) for row in rows)
            values.append(1 / best if best <= _TOP else 0.0)
    return 100 * float(np.mean(values))


def _planted(bench: Bench, test: Rows, *, clicks: int) -> Mapping[str, object]:
    """Returns how far 5 % planted choices of one caller move any document of any question, at the shipped setting."""
    rules = ClickRules(2, 90.0)
    worst = 0
    everywhere = np.arange(len(bench.askable.dataset.queries))
    for seed in range(_SEEDS):
        simulated = simulate_clicks(bench.askable, everywhere, clicks=clicks, voters_of_pair=2, seed=seed)
        target = int(np.random.default_rng(seed).choice(len(bench.askable.entries)))
        planted = plant_clicks(bench.askable, test.tolist(), target, clicks=round(0.05 * clicks))
        before = bench.ranks(simulated.choices, rules, test)
        after = bench.ranks([*simulated.choices, *planted], rules, test)
        for ours, theirs in zip(before, after, strict=True):
            worst = max([worst, *(abs(ours[row] - theirs.get(row, len(ours))) for row in ours)])
    return {"rule": "5 % planted by one caller: largest change of a rank", "largest": worst}


def _markdown(rows: Sequence[Mapping[str, object]]) -> str:
    names = [name for name in rows[0] if name != "rule"]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{row[name]:.1f}" if name in row else "" for name in names]
        largest = f": {row['largest']}" if "largest" in row else ""
        lines.append(f"| {row['rule']}{largest} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--clicks", type=int, default=500)
    parser.add_argument("--fit", type=Path, help="write the profile's calibration with its click channel here")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
