"""`penstock tune`: finds the cheapest index of vectors that still finds enough in every direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings
from penstock.cli.render import print_json, print_table, say, stage_progress

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.store.index_trials import IndexTrials
    from penstock.tune.directions import Bank
    from penstock.tune.measure import DirectionFigures
    from penstock.tune.run import TuneResult

_SetOption = Annotated[
    list[Path] | None,
    typer.Option("--set", metavar="SET", help="Take vectors and questions of this evaluation set. Repeatable."),
]
_QuestionsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Take the vectors of the running index, and these questions, one a line."),
]
_OnOption = Annotated[
    str | None,
    typer.Option(
        metavar="STORE", help="Try on a lite or milvus that is started for it. Default: the store of the settings."
    ),
]
_TypesOption = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Types of index to try, with commas. Default: all that the store has."),
]
_WriteOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the choice into this file of settings, as [store.index].")
]

_RecallOption = Annotated[float, typer.Option(min=0.01, max=1.0, help="Recall@10 that every direction has to meet.")]
_GrowOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Add made vectors between those of a set, up to N in all.")
]
_MaxVectorsOption = Annotated[int, typer.Option(metavar="N", min=40, help="Vectors of each channel of the index.")]
_ConditionsOption = Annotated[
    bool, typer.Option("--conditions/--no-conditions", help="Measure filters and a cold start of the choice.")
]
_PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE.svg", help="Draw recall against time, with the Pareto front.")
]
_VectorsOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors. Default: in the data folder.")
]


def tune(
    context: typer.Context,
    *,
    sets: _SetOption = None,
    questions: _QuestionsOption = None,
    target_recall: _RecallOption = 0.95,
    on: _OnOption = None,
    types: _TypesOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Try few builds of each type.")] = False,
    grow: _GrowOption = 0,
    max_vectors: _MaxVectorsOption = 50_000,
    max_queries: Annotated[int, typer.Option(metavar="N", min=20, help="Questions of each direction.")] = 200,
    conditions: _ConditionsOption = True,
    plot: _PlotOption = None,
    write: _WriteOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of every draw.")] = 0,
    vectors: _VectorsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure indexes of vectors on the store, and choose the cheapest that meets the target in every direction.

    Words that search images are another direction than images that search images: an index that serves one may miss a
    third of the other. Recall is that of the first ten, against an exact search, ties counted as equal.

    Vectors are loaded into a collection of their own, which is dropped at the end; the index itself is only read. New
    settings of the search count from the next start of the query plane, those of the build for new collections.

    Exits with 1 if no index meets the target.
    """
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.errors import UsageError
    from penstock.tune.run import TuneOptions, tune

    if bool(sets) == bool(questions):
        raise UsageError("give either --set, or --questions with questions to the running index")
    settings = with_selected_profile(connected_settings(context))
    models = load_profile(settings.profile)
    chosen_types = None if types is None else [name.strip().upper() for name in types.split(",")]
    options = TuneOptions(target_recall, settings.query.candidates, chosen_types, quick, conditions)
    with stage_progress(quiet=as_json) as report:
        report("reading vectors", 0, None)
        if questions is not None:
            banks = _banks_of_index(settings, models, questions, max_vectors=max_vectors, seed=seed)
        else:
            banks = _banks_of_sets(sets or [], settings, models, vectors, max_queries=max_queries, grow=grow, seed=seed)
        with _trials(settings, on) as trials:
            result = tune(trials, banks, options, lambda name: report(name, 0, None))
    _report(result, len(banks[0].vectors), plot, write, as_json=as_json)


def _banks_of_sets(
    folders: Sequence[Path],
    settings: Settings,
    profile: Profile,
    vectors: Path | None,
    *,
    max_queries: int,
    grow: int,
    seed: int,
) -> list[Bank]:
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.vectors import VectorFiles
    from penstock.tune.directions import banks_of_set, grown, joined

    folder = vectors or settings.data_dir / "evaluation" / "vectors"
    stored = VectorFiles(folder, profile, precision=settings.precision, device=settings.device)
    banks = joined(
        [
            bank
            for set_folder in folders
            for bank in banks_of_set(read_set(set_folder), stored, max_queries=max_queries, seed=seed)
        ],
        max_queries=max_queries,
        seed=seed,
    )
    return [grown(bank, grow, seed=seed) for bank in banks]


def _banks_of_index(
    settings: Settings, profile: Profile, questions: Path, *, max_vectors: int, seed: int
) -> list[Bank]:
    from penstock.cli.common import require_store
    from penstock.errors import UsageError
    from penstock.evaluate.vectors import VectorFiles
    from penstock.records import Collection, Field, Float32
    from penstock.store.milvus.store import MilvusStore
    from penstock.tune.index_sample import banks_of_index

    require_store(settings)
    lines = [line.strip() for line in questions.read_text("utf-8").splitlines() if line.strip()]
    if len(lines) < 20:
        raise UsageError(f"{questions} has {len(lines)} questions, and recall needs at least 20")
    stored = VectorFiles(settings.data_dir / "evaluation" / "vectors", profile, precision=settings.precision)
    embedded: dict[tuple[Collection, Field], Float32] = {
        (collection, field): stored.texts(profile.query_encoder(field, collection), lines)
        for collection, fields in profile.vectors.items()
        for field in fields
        if field is not Field.LEXICAL
    }
    store = MilvusStore(settings.store)
    try:
        return banks_of_index(store, embedded, max_vectors=max_vectors, seed=seed)
    finally:
        store.close()


@contextmanager
def _trials(settings: Settings, on: str | None) -> Iterator[IndexTrials]:
    """Yields trials on the store of the settings, or on one that is started for it in a folder of its own."""
    import tempfile

    from penstock.cli.common import require_store
    from penstock.embedded.milvus import EmbeddedMilvus
    from penstock.embedded.milvus_standalone import MilvusStandalone
    from penstock.errors import UsageError
    from penstock.store.milvus.trials import MilvusTrials

    if on is None:
        require_store(settings)
        trials = MilvusTrials(settings.store)
        try:
            yield trials
        finally:
            trials.close()
        return
    if on not in ("lite", "milvus"):
        raise UsageError(f"--on {on!r} is neither lite nor milvus")
    with tempfile.TemporaryDirectory(prefix="penstock-tune-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = EmbeddedMilvus(folder / "lite") if on == "lite" else MilvusStandalone(folder / "milvus")
        try:
            started = settings.store.model_copy(update={"uri": server.start(), "token": None, "token_file": None})
            trials = MilvusTrials(started)
            yield trials
            trials.close()
        finally:
            server.stop()


def _report(result: TuneResult, vectors: int, plot: Path | None, write: Path | None, *, as_json: bool) -> None:
    """Shows, draws and writes the result. Exits with 1 if nothing meets the target."""
    from penstock.tune.plot import draw
    from penstock.tune.settings_file import settings_text, write_settings

    described = f"{result.product}, {vectors:,} vectors"
    if plot is not None:
        title = f"{described}, {result.limit} entries a search"
        plot.write_text(draw(result.candidates, result.target_recall, result.chosen, title=title), encoding="utf-8")
    print_json(result.to_json()) if as_json else _show(result)
    if result.chosen is None:
        say(f"No index meets recall@10 {result.target_recall:g} in every direction.")
        raise typer.Exit(1)
    reason = f"penstock tune: recall@10 of at least {result.target_recall:g} in every direction on {described}"
    if write is not None:
        write_settings(result.chosen.index, write, reason=reason)
        say(f"Written: {write}")
    elif not as_json:
        say(settings_text(result.chosen.index, reason=reason))


def _show(result: TuneResult) -> None:
    print_table([
        {
            "channel": point.channel,
            "index": point.name,
            "bytes": point.bytes,
            "build s": f"{point.build_s:.1f}",
            "direction": name.partition(" →")[0],
            **_columns(figures),
        }
        for point in result.points
        for name, figures in point.figures.items()
    ])  # fmt: skip
    if result.chosen is not None:
        print_table(
            [
                {
                    "channel": row.channel,
                    "direction": row.direction,
                    "condition": row.condition,
                    **_columns(row.figures),
                }
                for row in result.conditions
            ],
            title=f"{result.chosen.name}: filters, and a cold start",
        )


def _columns(figures: DirectionFigures) -> dict[str, str]:
    return {
        "recall@10": f"{figures.recall:.3f}",
        "worst 5 %": f"{figures.worst:.2f}",
        "p50 ms": f"{figures.p50_ms:.1f}",
        "p95 ms": f"{figures.p95_ms:.1f}",
        "per s": f"{figures.per_s:.0f}",
    }
