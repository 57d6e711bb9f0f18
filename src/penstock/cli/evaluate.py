"""`penstock evaluate`: measures how well labelled queries find their documents, offline or through the planes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings
from penstock.cli.render import say

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.evaluate.evaluation import Evaluated, EvaluationOptions
    from penstock.evaluate.evaluation_set import EvaluationSet
    from penstock.evaluate.result import Result
    from penstock.query.adapters import AdapterSet
    from penstock.query.fusion.calibration import Calibration
    from penstock.query.types import FuseOptions

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
_FuseOption = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='Fusion, as `fuse` of a request: {"method": "rrf"}. Default: the settings.'),
]
_CalibrationOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Calibration for the offline fusion. Default: as the query plane.")
]
_AdapterOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Adapter of questions to search with offline (docs/adapters.md)."),
]
_RerankOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=2, help="Rerank the first N documents offline by the profile's model, all of them."),
]


@dataclass(frozen=True)
class _Job:
    """The checked options of one evaluation."""

    datasets: Sequence[EvaluationSet]
    settings: Settings
    options: EvaluationOptions
    live: bool
    import_file: Path | None
    vectors: Path
    fuse: FuseOptions
    fuse_document: Mapping[str, object]
    calibration: Calibration | None
    rerank: int | None
    adapter: Path | None


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
    fuse: _FuseOption = None,
    calibration: _CalibrationOption = None,
    rerank: _RerankOption = None,
    adapter: _AdapterOption = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the intervals and tests.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure how well labelled queries find their documents.

    Shows hit@k, recall@k, MRR@10 and nDCG@10 with 95 % intervals, by language, kind and style: of chance, of each
    channel alone and of the fused search. Sets with images are also evaluated from image to text.

    Equal seeds give equal figures. docs/evaluate.md explains the figures and how to make a set.

    Over the limit because each option is an argument.
    """
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.evaluate.report import to_markdown
    from penstock.evaluate.result import as_read, read_result, to_json, write

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(connected_settings(context))
    _check_files(export, against, import_file, sets)
    base = read_result(against) if against else None  # before minutes of work
    options = _options(k, split, seed)
    job = _job(
        sets,
        settings,
        options,
        live=live,
        import_file=import_file,
        vectors=vectors,
        fuse=fuse,
        calibration=calibration,
        rerank=rerank,
        adapter=adapter,
    )
    evaluated = _evaluate(job)
    result = _compose(evaluated, job)
    if base is not None and against is not None:
        result = _compared(result, evaluated, base, against, options)
    if export is not None:
        _export(evaluated, export, output.parent if output else Path())
    markdown = to_markdown(result := as_read(result))
    if output is not None:
        write(result, output, markdown)
        say(f"Written: {output} and {output.with_suffix('.md')}")
    sys.stdout.write(to_json(result) if as_json else markdown)


def _options(ks: str, split: str, seed: int | None) -> EvaluationOptions:
    from penstock.evaluate.evaluation import EvaluationOptions
    from penstock.evaluate.intervals import DRAWS, SEED

    return EvaluationOptions(_parse_ks(ks), _checked_split(split), DRAWS, SEED if seed is None else seed)


def _job(
    sets: Sequence[Path],
    settings: Settings,
    options: EvaluationOptions,
    *,
    live: bool,
    import_file: Path | None,
    vectors: Path | None,
    fuse: str | None,
    calibration: Path | None,
    rerank: int | None,
    adapter: Path | None,
) -> _Job:
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.profiles import load_profile
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.fusions import parse_fuse
    from penstock.query.calibrations import find_calibration

    profile = load_profile(settings.profile)
    file = calibration or settings.query.calibration
    fuse_document = _parse_json(fuse or "{}")
    return _Job(
        datasets=[read_set(folder) for folder in sets],
        settings=settings,
        options=options,
        live=live,
        import_file=import_file,
        vectors=vectors or settings.data_dir / "evaluation" / "vectors",
        fuse=parse_fuse(fuse_document, settings.query),
        fuse_document=fuse_document,
        calibration=find_calibration(file, settings.data_dir, profile, profile_fingerprints(profile), "FLAT"),
        rerank=rerank,
        adapter=adapter,
    )


def _evaluate(job: _Job) -> list[Evaluated]:
    from penstock.encoders.profiles import load_profile
    from penstock.evaluate.evaluation import evaluate_offline, evaluate_run
    from penstock.evaluate.exchange import import_run
    from penstock.evaluate.fusions import open_fusion, shares_of
    from penstock.evaluate.reranking import open_reranker
    from penstock.evaluate.vectors import VectorFiles

    if job.import_file is not None:
        run = import_run(job.datasets[0], job.import_file)
        return [evaluate_run(job.datasets[0], run, job.options, system="imported")]
    if job.live:
        from penstock.evaluate.live import evaluate_live

        return [
            evaluate_live(dataset, job.settings, job.options, fuse=job.fuse_document, report=say)
            for dataset in job.datasets
        ]
    profile = load_profile(job.settings.profile)
    stored = VectorFiles(
        job.vectors,
        profile,
        precision=job.settings.precision,
        device=job.settings.device,
        adapters=_adapters(job.adapter, profile),
    )
    reranker = None if job.rerank is None else open_reranker(profile, job.settings, top=job.rerank)
    evaluated: list[Evaluated] = []
    for dataset in job.datasets:
        # As in the query plane, a model that reads the hits decides on the first place.
        fusion = open_fusion(job.fuse, job.calibration, None if reranker else shares_of(dataset))
        evaluated += evaluate_offline(dataset, stored, reranker(fusion) if reranker else fusion, job.options)
    return evaluated


def _adapters(file: Path | None, profile: Profile) -> AdapterSet:
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.transform import load_transform
    from penstock.query.adapters import AdapterSet, adapter_of

    return AdapterSet([] if file is None else [adapter_of(load_transform(file), profile_fingerprints(profile))])


def _compose(evaluated: Sequence[Evaluated], job: _Job) -> Result:
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.profiles import load_profile
    from penstock.evaluate.environment import describe_command, describe_commit, describe_machine
    from penstock.evaluate.fusions import describe_fusion
    from penstock.evaluate.result import Result

    imported = job.import_file is not None
    profile = load_profile(job.settings.profile)
    fingerprints = {} if imported else profile_fingerprints(profile)
    return Result(
        mode="imported" if imported else "live" if job.live else "offline",
        command=describe_command(sys.argv[1:]),
        commit=describe_commit(),
        machine=describe_machine(),
        profile=profile.name,
        encoders={
            role: f"{identity.model} {identity.weights} {identity.preprocessing}"
            for role, identity in fingerprints.items()
        },
        fusion="of the imported run"
        if imported
        else describe_fusion(job.fuse, job.calibration)
        + (f", {job.rerank} reranked" if job.rerank else "")
        + (f", adapter {job.adapter.stem}" if job.adapter else ""),
        seed=job.options.seed,
        draws=job.options.draws,
        sets=[of_set.result for of_set in evaluated],
    )


def _compared(
    result: Result, evaluated: Sequence[Evaluated], base: Result, against: Path, options: EvaluationOptions
) -> Result:
    from penstock.evaluate.tables import compare

    sets = [(of_set.dataset, of_set.queries, of_set.result) for of_set in evaluated]
    comparisons = compare(sets, base.sets, draws=options.draws, seed=options.seed)
    return replace(result, against=f"{against.name}: {base.profile}, {base.fusion}", comparisons=comparisons)


def _export(evaluated: Sequence[Evaluated], form: str, folder: Path) -> None:
    from penstock.evaluate.exchange import export_run

    for of_set in evaluated:
        files = export_run(of_set.dataset, of_set.queries, of_set.run, folder, form=form)
        say(f"Written: {files[0]} and {files[1]}")


def _parse_json(text: str) -> Mapping[str, object]:
    from penstock.errors import UsageError

    try:
        document = json.loads(text)
    except json.JSONDecodeError as exc:
        raise UsageError(f"--fuse is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise UsageError('--fuse must be a JSON object, such as \'{"method": "rrf"}\'')
    return document


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
