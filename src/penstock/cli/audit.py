"""`penstock audit`: proves that every event has exactly one outcome, or lists those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka, require_store
from penstock.cli.render import print_json, print_table, stage_progress

if TYPE_CHECKING:
    from penstock.audit import AuditProblem, AuditReport, PartitionReport

_MAX_SHOWN = 20


def audit(
    context: typer.Context,
    *,
    sample: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Check only this share of the assets, such as 0.01. Default: all."),
    ] = None,
    problems_file: Annotated[
        Path | None,
        typer.Option(
            "--problems", metavar="FILE", help="Write every problem to FILE, however many, one JSON object per line."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove from Kafka and the store that every event has exactly one outcome, and list those that do not.

    Exits with 0 if the counts balance, with 1 if not, and with 3 if Kafka or Milvus is unavailable. Nothing is changed,
    and ingestion and search may continue during the audit.
    """
    from penstock.audit import run_audit

    settings = connected_settings(context)
    require_kafka(settings)
    require_store(settings)
    with stage_progress() as show_stage, _written_to(problems_file) as write:
        report = run_audit(
            settings,
            sample=sample,
            on_progress=lambda step: show_stage(step.stage, step.done, step.total),
            on_problem=write,
        )
    print_json(report_json(report)) if as_json else show(report, problems_file)
    raise typer.Exit(0 if report.balanced else 1)


@contextmanager
def _written_to(file: Path | None) -> Iterator[Callable[[AuditProblem], None] | None]:
    """Yields a function that appends a problem to the file, which is emptied first. Yields None without a file."""
    if file is None:
        yield None
        return
    with _can_be_written(file):
        lines = file.open("w", encoding="utf-8")

    def write(problem: AuditProblem) -> None:
        with _can_be_written(file):
            lines.write(json.dumps(_problem(problem), ensure_ascii=False) + "\n")

    try:
        yield write
    finally:
        with _can_be_written(file):
            lines.close()


@contextmanager
def _can_be_written(file: Path) -> Iterator[None]:
    from penstock.errors import UsageError

    try:
        yield
    except OSError as exc:
        raise UsageError(
            f"--problems {file} cannot be written ({exc.strerror}): name a file in an existing folder with free space"
        ) from exc


# --- JSON ------------------------------------------------------------------------------------------------------------


def report_json(report: AuditReport) -> Mapping[str, object]:
    """Returns the report as JSON values."""
    return {
        "balanced": report.balanced,
        "produced": report.produced,
        "indexed": report.indexed,
        "deleted": report.deleted,
        "superseded": report.superseded,
        "dead_lettered": report.dead_lettered,
        "in_flight": report.in_flight,
        "assets": report.assets,
        "entries": report.entries,
        "partitions": [_partition(partition) for partition in report.partitions],
        "lost": [str(lost) for lost in report.lost],
        "problem_counts": {kind.value: count for kind, count in report.problem_counts.items()},
        "problems": [_problem(problem) for problem in report.problems],
        "exclusions": {name: getattr(report.exclusions, name) for name in _EXCLUSIONS},
        "sample": report.sample,
        "unseen": list(report.unseen),
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
    }


def _partition(report: PartitionReport) -> Mapping[str, object]:
    return {
        "topic": report.partition.topic,
        "partition": report.partition.partition,
        "start": report.start,
        "end": report.end,
        "committed": report.committed,
        "produced": report.produced,
        **{outcome.value: count for outcome, count in report.outcomes.items()},
        "missing": report.missing,
        "in_flight": report.in_flight,
    }


def _problem(problem: AuditProblem) -> Mapping[str, object]:
    return {
        "kind": problem.kind.value,
        "event": None if problem.position is None else str(problem.position),
        "asset": problem.asset_id,
        "entry": problem.entry_id,
        "message": problem.message,
    }


# --- text ------------------------------------------------------------------------------------------------------------


def show(report: AuditReport, problems_file: Path | None = None) -> None:
    """Prints the balance of each topic, the problems below it, and where the other problems are."""
    print_table(_topic_rows(report))
    typer.echo("")
    for line in _lines(report, problems_file):
        typer.echo(line)


def _topic_rows(report: AuditReport) -> list[Mapping[str, object]]:
    """Returns a row for each topic: the columns around `=` are the balance; events in flight are outside it."""
    from penstock.records import Outcome

    rows: list[Mapping[str, object]] = []
    for topic in dict.fromkeys(partition.partition.topic for partition in report.partitions):
        partitions = [partition for partition in report.partitions if partition.partition.topic == topic]
        ended = {outcome: sum(partition.outcomes.get(outcome, 0) for partition in partitions) for outcome in Outcome}
        produced = sum(partition.produced for partition in partitions)
        rows.append(
            {
                "topic": topic,
                "produced": f"{produced:,}",
                "": "=" if produced == sum(ended.values()) else "≠",
                "indexed": f"{ended[Outcome.INDEXED]:,}",
                "+ deleted": f"{ended[Outcome.DELETED]:,}",
                "+ superseded": f"{ended[Outcome.SUPERSEDED]:,}",
                "+ dead-lettered": f"{ended[Outcome.DEAD_LETTERED]:,}",
                "in flight": f"{sum(partition.in_flight for partition in partitions):,}",
            }
        )
    return rows


def _lines(report: AuditReport, problems_file: Path | None) -> Iterator[str]:
    from penstock.audit.report import select_problems

    share = "" if report.sample is None else f", a sample of {report.sample:.3%} of the assets"
    yield f"{report.assets:,} assets and {report.entries:,} entries checked{share}"
    for name, description in _EXCLUSIONS.items():
        if count := getattr(report.exclusions, name):
            yield f"{count:,} {description}"
    for line in report.unseen:
        yield f"not covered by a sample: {line}"
    for lost in report.lost:
        yield f"LOST to retention before it was committed: {lost}"
    shown = select_problems(report.problems, _MAX_SHOWN)
    for problem in shown:
        yield f"{problem.kind}: {problem.message}"
    total = sum(report.problem_counts.values())
    if total > len(shown):
        by_kind = ", ".join(f"{count:,} {kind}" for kind, count in report.problem_counts.items())
        hint = "" if problems_file else "; `--problems FILE` writes all of them to a file"
        yield f"… and {total - len(shown):,} more: {total:,} problems in total ({by_kind}){hint}"
    if problems_file and total:
        yield f"all {total:,} problems are in {problems_file}, one per line"
    yield "balanced" if report.balanced else "NOT balanced"


_EXCLUSIONS = {
    "replays": "records are replays of dead letters and not counted as events",
    "before_log": "asset rows or dead letters belong to events that retention has removed",
    "compacted": "asset rows or dead letters belong to events that compaction may have removed",
    "other_topics": "asset rows, entries or dead letters belong to topics that are not audited",
    "repeated_dead_letters": "dead letters belong to events that already had a dead letter",
    "foreign_records": "records of the dead-letter topic were not written by Penstock",
    "being_written": "assets are being written",
}
