"""`penstock train calibration`: fits the comparison of channels, and relevance, to labelled questions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import train_adapter, train_clicks, train_compress, train_fusion, train_suggest, train_towers
from penstock.cli.common import JsonFlag, connected_settings, read_settings
from penstock.cli.render import print_json, print_table, say, stage_progress

if TYPE_CHECKING:
    from penstock.cli.render import StageListener
    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.query.fusion.calibration import Calibration
    from penstock.train.card import CalibrationCard, SetCard

app = typer.Typer(help="Fit the ranking to questions with labels.", no_args_is_help=True)
app.command()(train_compress.compress)
app.command()(train_fusion.fusion)
app.command("adapter")(train_adapter.adapter)
app.command("suggest")(train_suggest.suggest)
app.command("towers")(train_towers.towers)

_SetsOption = Annotated[
    list[Path] | None,
    typer.Option("--set", metavar="SET", help="Folder of an evaluation set (docs/evaluate.md). Repeatable."),
]
_ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as the global option --profile.")
]
_OutOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the calibration here. Default: where searches of this data folder look."),
]
_LabelsOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Labelled questions of each set to fit to. Default: up to 1,000.")
]
_VectorsOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors. Default: in the data folder.")
]


@app.callback()
def train() -> None:
    """Fit the ranking to questions with labels."""


app.command()(train_clicks.pairs)


@app.command()
def calibration(
    context: typer.Context,
    *,
    sets: _SetsOption = None,
    clicks: Annotated[
        bool, typer.Option("--clicks", help="Fit how much choices say, to what people chose (docs/feedback.md).")
    ] = False,
    channels: Annotated[
        bool, typer.Option("--channels", help="With --clicks: fit the channels of the index to choices, too.")
    ] = False,
    profile: _ProfileOption = None,
    out: _OutOption = None,
    labels: _LabelsOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of splits and choices.")] = 0,
    isotonic: Annotated[
        bool, typer.Option("--isotonic", help="Fit steps instead of curves, from 500 questions on. They cost order.")
    ] = False,
    vectors: _VectorsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit, for each channel, how likely an entry is right given its score, and the relevance of hits.

    Fits to the splits train and dev of each set, at least 10 questions, and judges the result by the split test. A set
    without splits is divided in two. Writes the calibration and beside it a card with all figures.

    A running query plane uses a new calibration after its next start.
    """
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.query.calibrations import kept_file
    from penstock.query.fusion.calibration import write_calibration

    _check(sets, clicks=clicks, channels=channels)
    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(read_settings(context))
    models = load_profile(settings.profile)
    if clicks:
        fit = _fit_channels if channels else _fit_clicks
        fit(with_selected_profile(connected_settings(context)), models, out, as_json=as_json)
        return
    with stage_progress(quiet=as_json) as report:
        fitted, card = _train(
            sets or [], settings, models, vectors, labels=labels, seed=seed, isotonic=isotonic, report=report
        )
    file = out or kept_file(settings.data_dir, models)
    write_calibration(fitted, file)
    _write_card(card, file.with_suffix(".card.json"))
    if as_json:
        print_json(card.to_json())
    else:
        _show(card)
    say(f"Written: {file} and {file.with_suffix('.card.json')}. The query plane reads it when it starts.")


def _check(sets: Sequence[Path] | None, *, clicks: bool, channels: bool) -> None:
    from penstock.errors import UsageError

    if channels and not clicks:
        raise UsageError("--channels needs --clicks: a calibration by --set is one of all channels")
    if clicks and sets:
        raise UsageError("give --set or --clicks: choices are fitted beside a calibration, not together with one")
    if not sets and not clicks:
        raise UsageError("give at least one folder of labelled questions by --set (docs/evaluate.md has the layout)")


def _fit_clicks(settings: Settings, profile: Profile, out: Path | None, *, as_json: bool) -> None:
    from penstock.cli.common import require_store
    from penstock.cli.train_clicks import fit_clicks

    require_store(settings)
    fitted, file, counts = fit_clicks(settings, profile, out)
    if as_json:
        score_map = None if fitted.clicked is None else asdict(fitted.clicked.score_map)
        print_json({**counts, "clicked": score_map, "file": str(file)})
        return
    say(
        f"Fitted to {counts['later_questions']:,} questions that came after {counts['remembered']:,} choices. "
        f"Written: {file}. The query plane reads it when it starts."
    )


def _fit_channels(settings: Settings, profile: Profile, out: Path | None, *, as_json: bool) -> None:
    from penstock.cli.common import require_store
    from penstock.cli.train_clicks import fit_channels

    require_store(settings)
    fitted, file, counts, figures = fit_channels(settings, profile, out)
    names = sorted(str(channel) for channel in fitted.channels)
    if as_json:
        print_json({**counts, "channels": names, "base": figures.base, "fitted": figures.fitted, "file": str(file)})
        return
    say(
        f"Fitted {', '.join(names)} to {counts['questions']:,} questions. MRR@10 of {figures.questions:,} later ones: "
        f"{100 * figures.base:.1f} before, {100 * figures.fitted:.1f} now. Written: {file}. The query plane reads it "
        "when it starts."
    )


def _train(
    folders: Sequence[Path],
    settings: Settings,
    profile: Profile,
    vectors: Path | None,
    *,
    labels: int | None,
    seed: int,
    isotonic: bool,
    report: StageListener,
) -> tuple[Calibration, CalibrationCard]:
    from penstock.encoders.load import profile_fingerprints
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.offline import search_offline
    from penstock.evaluate.vectors import VectorFiles
    from penstock.query.calibrations import channel_encoders, channel_index_types
    from penstock.query.fusion.calibration import Provenance
    from penstock.train.calibration import fit_calibration
    from penstock.train.card import CalibrationCard, judge_set
    from penstock.train.labels import LabelledRankings, divide, spare_entries

    started = time.perf_counter()
    datasets = [read_set(folder) for folder in folders]
    divisions = [divide(dataset, seed=seed, labels=labels) for dataset in datasets]  # refuses before minutes of work
    folder = vectors or settings.data_dir / "evaluation" / "vectors"
    stored = VectorFiles(folder, profile, precision=settings.precision, device=settings.device)
    rankings = []
    for number, dataset in enumerate(datasets):
        report("searching", number, len(datasets))
        rankings.append(search_offline(dataset, stored, spare=spare_entries(dataset)))
    report("searching", len(datasets), len(datasets))
    report("fitting", 0, 1)
    questions = [
        question
        for of_set, (rows, _) in zip(rankings, divisions, strict=True)
        for question in LabelledRankings(of_set, rows)
    ]
    hashes = {dataset.name: dataset.hash for dataset in datasets}
    fitted = fit_calibration(
        questions,
        channel_encoders(profile, profile_fingerprints(profile)),
        channel_index_types("FLAT"),
        Provenance(hashes, len(questions), seed, Path(profile.name).stem),
        isotonic=isotonic,
    )
    report("fitting", 1, 1)
    cards = []
    for number, (of_set, (rows, held_out)) in enumerate(zip(rankings, divisions, strict=True)):
        report("judging", number, len(datasets))
        cards.append(judge_set(LabelledRankings(of_set, held_out), len(rows), fitted))
    report("judging", len(datasets), len(datasets))
    seconds = round(time.perf_counter() - started, 1)
    return fitted, CalibrationCard(fitted.provenance.profile, seed, len(questions), seconds, cards)


def _write_card(card: CalibrationCard, file: Path) -> None:
    import json

    file.write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")


def _show(card: CalibrationCard) -> None:
    for of_set in card.sets:
        _show_set(of_set)


def _show_set(of_set: SetCard) -> None:
    print_table(
        [
            {
                "queries": part.name,
                "number": part.questions,
                **{f"{name} without labels": f"{100 * value:.1f}" for name, value in part.base.items()},
                **{f"{name} calibrated": f"{100 * value:.1f}" for name, value in part.calibrated.items()},
            }
            for part in of_set.slices
        ],
        title=f"{of_set.name}: {of_set.fitted} questions to fit to",
    )
    if (figures := of_set.relevance) is None:
        return
    say(
        f"Expected calibration error: {figures.first_ece:.3f} of first hits, half of the answers taken out; "
        f"{figures.hits_ece:.3f} of the first ten hits. Brier score of first hits: {figures.first_brier:.3f}."
    )
    print_table(
        [
            {
                "relevance": f"{row.low:.1f}–{row.high:.1f}",
                "first hits": row.count,
                "mean": f"{row.stated:.2f}",
                "right": f"{row.observed:.2f}",
            }
            for row in figures.reliability
            if row.count
        ]
    )
    print_table(
        [
            {
                "floor": f"{point.floor:.3f}",
                "found without an answer": f"{point.false_found:.1%}",
                "found with one": f"{point.kept:.1%}",
            }
            for point in figures.found_curve
        ]
    )
