"""`penstock evaluate`: measures how well labelled queries find their documents, offline or through the planes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings
from penstock.cli.render import say

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.evaluate.evaluation import Evaluated, EvaluationOptions
    from penstock.evaluate.evaluation_set import EvaluationSet
    from penstock.evaluate.result import Result

_SetsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="SET…", help="Folders of evaluation sets in the layout of BEIR (docs/evaluate.md)."),
]
_SplitOption = Annotated[
    str, typer.Option(metavar="NAME", help="Queries to evaluate: those of train, dev, test or all.")
]
_LiveOption = Annotated[
    bool,
    typer.Option(
        "--live/--offline",
        help="Through the running planes: produce the set, wait until it is indexed, search over HTTP. Or in this "
        "process, on stored vectors.",
    ),
]
_AgainstOption = Annotated[
    Path | None, typer.Option(metavar="RUN.json", help="Compare with the result that an earlier --output wrote.")
]
_OutputOption = Annotated[
    Path | None, typer.Option(metavar="RUN.json", help="Write the result here, and its tables beside it as Markdown.")
]
_ExportOption = Annotated[
    str | None, typer.Option(metavar="FORMAT", help="Write the ranking and the judgements: trec or beir.")
]
_ImportOption = Annotated[
    Path | None,
    typer.Option("--import", metavar="RUN.trec", help="Evaluate this ranking of another system instead of searching."),
]
_VectorsOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors. Default: in the data folder.")
]


def evaluate(
    context: typer.Context,
    sets: _SetsArgument,
    *,
    k: Annotated[str, typer.Option("--k", metavar="K,…", help="The k of hit@k and recall@k.")] = "1,5,10",
    split: _SplitOption = "test",
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as the global option --profile.")
    ] = None,
    live: _LiveOption = False,
    against: _AgainstOption = None,
    output: _OutputOption = None,
    export: _ExportOption = None,
    import_file: _ImportOption = None,
    vectors: _VectorsOption = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the intervals and tests.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure how well labelled queries find their documents.

    Shows hit@k, recall@k, MRR@10 and nDCG@10 with 95 % intervals, by language, kind and style: of chance, of each
    channel alone and of the fused search. Sets with images are also evaluated from image to text.

    Equal seeds give equal figures. docs/evaluate.md explains the figures and how to make a set.
    """
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.evaluation import EvaluationOptions
    from penstock.evaluate.intervals import DRAWS, SEED
    from penstock.evaluate.report import to_markdown
    from penstock.evaluate.result import as_read, read_result, to_json, write

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = connected_settings(context)
    options = EvaluationOptions(_parse_ks(k), _checked_split(split), DRAWS, SEED if seed is None else seed)
    _check_files(export, against, import_file, sets)
    base = read_result(against) if against else None  # before minutes of work
    datasets = [read_set(folder) for folder in sets]
    evaluated = _evaluate(datasets, settings, options, live=live, import_file=import_file, vectors=vectors)
    result = _compose(evaluated, settings, options, live=live, imported=import_file is not None)
    if base is not None and against is not None:
        result = _compared(result, evaluated, base, against, options)
    if export is not None:
        _export(evaluated, export, output.parent if output else Path())
    result = as_read(result)
    markdown = to_markdown(result)
    if output is not None:
        write(result, output, markdown)
        say(f"Written: {output} and {output.with_suffix('.md')}")
    sys.stdout.write(to_json(result) if as_json else markdown)


def _evaluate(
    datasets: Sequence[EvaluationSet],
    settings: Settings,
    options: EvaluationOptions,
    *,
    live: bool,
    import_file: Path | None,
    vectors: Path | None,
) -> list[Evaluated]:
    from penstock.encoders.profiles import load_profile
    from penstock.evaluate.evaluation import evaluate_offline, evaluate_run
    from penstock.evaluate.exchange import import_run
    from penstock.evaluate.fusions import open_fusion
    from penstock.evaluate.vectors import VectorFiles

    if import_file is not None:
        return [evaluate_run(datasets[0], import_run(datasets[0], import_file), options, system="imported")]
    if live:
        from penstock.evaluate.live import evaluate_live

        return [evaluate_live(dataset, settings, options, report=say) for dataset in datasets]
    stored = VectorFiles(
        vectors or settings.data_dir / "evaluation" / "vectors",
        load_profile(settings.profile),
        precision=settings.precision,
        device=settings.device,
    )
    fusion = open_fusion(settings.query)
    return [of_set for dataset in datasets for of_set in evaluate_offline(dataset, stored, fusion, options)]


def _compose(
    evaluated: Sequence[Evaluated], settings: Settings, options: EvaluationOptions, *, live: bool, imported: bool
) -> Result:
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.profiles import load_profile
    from penstock.evaluate.environment import describe_command, describe_commit, describe_machine
    from penstock.evaluate.fusions import describe_fusion
    from penstock.evaluate.result import Result

    fingerprints = {} if imported else profile_fingerprints(load_profile(settings.profile))
    return Result(
        mode="imported" if imported else "live" if live else "offline",
        command=describe_command(sys.argv[1:]),
        commit=describe_commit(),
        machine=describe_machine(),
        profile=settings.profile,
        encoders={
            role: f"{identity.model} {identity.weights} {identity.preprocessing}"
            for role, identity in fingerprints.items()
        },
        fusion="of the imported run" if imported else describe_fusion(settings.query),
        seed=options.seed,
        draws=options.draws,
        sets=[of_set.result for of_set in evaluated],
    )


def _compared(
    result: Result, evaluated: Sequence[Evaluated], base: Result, against: Path, options: EvaluationOptions
) -> Result:
    from dataclasses import replace

    from penstock.evaluate.tables import compare

    sets = [(of_set.dataset, of_set.queries, of_set.result) for of_set in evaluated]
    comparisons = compare(sets, base.sets, draws=options.draws, seed=options.seed)
    return replace(result, against=f"{against.name}: {base.profile}, {base.fusion}", comparisons=comparisons)


def _export(evaluated: Sequence[Evaluated], form: str, folder: Path) -> None:
    from penstock.evaluate.exchange import export_run

    for of_set in evaluated:
        files = export_run(of_set.dataset, of_set.queries, of_set.run, folder, form=form)
        say(f"Written: {files[0]} and {files[1]}")


def _parse_ks(text: str) -> tuple[int, ...]:
    from penstock.errors import UsageError

    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"--k {text!r} is not a list of numbers such as 1,5,10") from exc
    if min(ks) < 1:
        raise UsageError(f"--k {text!r} has a number below 1")
    return ks


def _checked_split(name: str) -> str:
    from penstock.errors import UsageError
    from penstock.evaluate.evaluation_set import ALL, SPLITS

    if name not in (*SPLITS, ALL):
        raise UsageError(f"--split {name!r} is none of {', '.join((*SPLITS, ALL))}")
    return name


def _check_files(export: str | None, against: Path | None, import_file: Path | None, sets: Sequence[Path]) -> None:
    from penstock.errors import UsageError
    from penstock.evaluate.exchange import FORMATS

    if export is not None and export not in FORMATS:
        raise UsageError(f"--export {export!r} is none of {', '.join(FORMATS)}")
    if import_file is not None and len(sets) != 1:
        raise UsageError("--import is the ranking of a single set: give exactly one")
    if against is not None and not against.is_file():
        raise UsageError(f"--against {against} does not exist; --output writes such a file")
