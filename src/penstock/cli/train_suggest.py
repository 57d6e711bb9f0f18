"""`penstock train suggest`: shows the questions that are most worth labelling."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_table


def suggest(
    context: typer.Context,
    *,
    dataset: Annotated[Path, typer.Option("--set", metavar="SET", help="Evaluation set whose questions are chosen.")],
    count: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Questions.")] = 50,
    split: Annotated[str, typer.Option(help="Questions to choose from: those of train, dev, test or all.")] = "all",
    profile: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as --profile.")] = None,
    vectors: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the questions that are most worth labelling: frequent ones about which the channels disagree."""
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.offline import search_offline
    from penstock.evaluate.vectors import VectorFiles
    from penstock.train.suggest import suggest_questions

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(read_settings(context))
    folder = vectors or settings.data_dir / "evaluation" / "vectors"
    stored = VectorFiles(folder, load_profile(settings.profile), precision=settings.precision, device=settings.device)
    questions = read_set(dataset)
    chosen = suggest_questions(search_offline(questions, stored), questions.select(split=split), count)
    if as_json:
        print_json([{"id": questions.queries[question.row].id, **asdict(question)} for question in chosen])
        return
    print_table(
        [
            {
                "question": question.text,
                "id": questions.queries[question.row].id,
                "times": question.times,
                "disagreement": f"{question.disagreement:.2f}",
            }
            for question in chosen
        ]
    )
