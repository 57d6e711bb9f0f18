"""Measures routing by what a question says against all collections alike, on images and texts.

    python -m benchmarks.routing SETS/mixed --vectors FOLDER [--profile shelf]

The questions are made of the names in the test split of the set ("a photo of a heron", "what is a heron"), and those of
`tests/query/routing/labelled_questions.tsv` that are about a thing of the set. Right is what is of the kind that the
question wants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from penstock.config import QuerySettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation_set import EvaluationSet, LabelledQuery
from penstock.evaluate.fusions import shares_of
from penstock.evaluate.intervals import bootstrap
from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import measure
from penstock.evaluate.offline import fuse_offline, search_offline
from penstock.evaluate.routing import RoutedFusion
from penstock.evaluate.vectors import VectorFiles
from penstock.query.calibrations import find_calibration
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.first_places import FirstPlaces
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.routing.router import Router
from penstock.records import Modality
from tests.query.routing.questions import labelled_questions

_TEMPLATES = {
    Modality.IMAGE: ("a photo of {}", "image of {}", "{} photos", "what does {} look like", "drawing of {}"),
    Modality.TEXT: ("what is {}", "definition of {}", "explain {}", "meaning of {}", "article about {}"),
}


def questions_of(mixed: EvaluationSet) -> EvaluationSet:
    """Returns the set with other queries: each is about one kind, and only documents of that kind are right."""
    modality = [document.modality for document in mixed.documents]
    rows, gains = mixed.judgements.rows(), mixed.judgements.gains_by_query()
    names = {query.text: row for row, query in enumerate(mixed.queries) if query.kind == "name"}
    queries: list[LabelledQuery] = []
    pairs: list[tuple[int, int, float]] = []

    def add(text: str, kind: str, of_name: int, lang: str, origin: str) -> None:
        relevant = [(int(row), float(gain)) for row, gain in zip(rows[of_name], gains[of_name], strict=True)]
        relevant = [(row, gain) for row, gain in relevant if modality[row] == kind]
        if relevant:
            pairs.extend((len(queries), row, gain) for row, gain in relevant)
            queries.append(LabelledQuery(f"{origin}:{len(queries)}", text, lang, origin))

    for number, (name, row) in enumerate(names.items()):
        if mixed.query_splits[row] == "test":
            for kind, templates in _TEMPLATES.items():
                add(templates[number % len(templates)].format(name), kind, row, "en", "template")
    for question in labelled_questions():
        if question.concept:
            add(question.text, question.collection.value, names[question.concept], question.language, "by hand")
    judgements = Judgements.of_pairs(pairs, queries=len(queries))
    return EvaluationSet("questions-of-a-kind", mixed.documents, tuple(queries), judgements, mixed.splits)


def main(
    folder: Annotated[Path, typer.Argument(help="The evaluation set mixed.")],
    vectors: Annotated[Path, typer.Option(help="Folder of stored vectors; those of the questions are added.")],
    profile: Annotated[str, typer.Option(help="The models.")] = "reference",
) -> None:
    """Print MRR@10 of all and auto, and their difference with its interval."""
    models = load_profile(profile)
    dataset = questions_of(read_set(folder))
    rankings = search_offline(dataset, VectorFiles(vectors, models, threads=1))
    calibration = find_calibration(None, Path(), models, profile_fingerprints(models), "FLAT")
    shares = shares_of(dataset)

    def reciprocal_ranks(mode: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        chooser = FusionChooser(ChannelStatistics(), calibration, FirstPlaces(QuerySettings().relevance_floor))
        fusion = RoutedFusion(chooser, Router.of_settings(QuerySettings()), mode=mode, shares=shares)
        return measure(fuse_offline(rankings, fusion).run, dataset.judgements)["MRR@10"]

    alike, auto = reciprocal_ranks("all"), reciprocal_ranks("auto")
    for origin in ("template", "by hand"):
        chosen = np.array([query.kind == origin for query in dataset.queries])
        typer.echo(
            f"{origin}: {chosen.sum()} questions, all {alike[chosen].mean():.4f}, auto {auto[chosen].mean():.4f}"
        )
    gain = bootstrap({"gain": auto - alike}, dataset.query_groups)["gain"]
    typer.echo(
        f"{profile}: {len(alike)} questions, MRR@10 all {alike.mean():.4f}, auto {auto.mean():.4f}, "
        f"gain {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    )


if __name__ == "__main__":
    typer.run(main)
