"""`penstock audit`: whether every event ended as exactly one thing, or which did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import (
    JsonFlag,
    connected_settings,
    print_json,
    print_table,
    require_kafka,
    require_store,
)

if TYPE_CHECKING:
    from penstock.audit import AuditProblem, AuditReport, PartitionReport
    from penstock.audit import AuditProgress as Step

_SHOWN = 20


def audit(
    context: typer.Context,
    *,
    sample: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Only so much of the assets, such as 0.01; else all of them.")
    ] = None,
    problems_file: Annotated[
        Path | None,
        typer.Option("--problems", metavar="FILE", help="Write every problem there, one a line as JSON, however many."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove from Kafka and the store that every event ended as exactly one thing, and say which did not.

    Exits with 0 if it balances, with 1 if not, with 3 if Kafka or Milvus does not answer. Nothing is changed, and
    everything may run on meanwhile.
    """
    from penstock.audit import run_audit

    settings = connected_settings(context)
    require_kafka(settings)
    require_store(settings)
    with _progress_bar() as tell, _written_to(problems_file) as write:
        report = run_audit(settings, sample=sample, on_progress=tell, on_problem=write)
    print_json(described(report)) if as_json else show(report, problems_file)
    raise typer.Exit(0 if report.balanced else 1)


@contextmanager
def _written_to(file: Path | None) -> Iterator[Callable[[AuditProblem], None] | None]:
    """What writes a problem to the file; what was there before is gone. None without a file."""
    if file is None:
        yield None
        return
    with _can_be_written(file):
        lines = file.open("w", encoding="utf-8")

    def write(one: AuditProblem) -> None:
        with _can_be_written(file):
            lines.write(json.dumps(_problem(one), ensure_ascii=False) + "\n")

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
            f"--problems {file} cannot be written ({exc.strerror}): name a file in a folder that is there and has space"
        ) from exc


@contextmanager
def _progress_bar() -> Iterator[Callable[[Step], None]]:
    """One bar a stage, on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(step: Step) -> None:
            if step.stage not in tasks:
                for task in tasks.values():
                    bar.stop_task(task)
                tasks[step.stage] = bar.add_task(step.stage, total=step.total)
            bar.update(tasks[step.stage], completed=step.done, total=step.total)

        yield tell


# ---- for programs ----


def described(report: AuditReport) -> dict[str, Any]:
    """The report as JSON has it."""
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
        "partitions": [_partition(one) for one in report.partitions],
        "lost": [str(one) for one in report.lost],
        "problem_counts": {kind.value: count for kind, count in report.problem_counts.items()},
        "problems": [_problem(one) for one in report.problems],
        "exclusions": {name: getattr(report.exclusions, name) for name in _EXCLUSIONS},
        "sample": report.sample,
        "unseen": list(report.unseen),
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
    }


def _partition(one: PartitionReport) -> dict[str, Any]:
    return {
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "start": one.start,
        "end": one.end,
        "committed": one.committed,
        "produced": one.produced,
        **{outcome.value: count for outcome, count in one.outcomes.items()},
        "missing": one.missing,
        "in_flight": one.in_flight,
    }


def _problem(one: AuditProblem) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "event": None if one.position is None else str(one.position),
        "asset": one.asset_id,
        "entry": one.entry_id,
        "message": one.message,
    }


# ---- for people ----


def show(report: AuditReport, problems_file: Path | None = None) -> None:
    """The balance by topic, what is wrong below, and where the rest of that is."""
    print_table(_topic_rows(report))
    typer.echo("")
    for line in _lines(report, problems_file):
        typer.echo(line)


def _topic_rows(report: AuditReport) -> list[dict[str, Any]]:
    """What the columns before `=` and after it say is the balance; the others stand apart."""
    from penstock.records import Outcome

    rows = []
    for topic in dict.fromkeys(one.partition.topic for one in report.partitions):
        ours = [one for one in report.partitions if one.partition.topic == topic]
        ended = {outcome: sum(one.outcomes.get(outcome, 0) for one in ours) for outcome in Outcome}
        produced = sum(one.produced for one in ours)
        rows.append(
            {
                "topic": topic,
                "produced": f"{produced:,}",
                "": "=" if produced == sum(ended.values()) else "≠",
                "indexed": f"{ended[Outcome.INDEXED]:,}",
                "+ deleted": f"{ended[Outcome.DELETED]:,}",
                "+ superseded": f"{ended[Outcome.SUPERSEDED]:,}",
                "+ dead-lettered": f"{ended[Outcome.DEAD_LETTERED]:,}",
                "in flight": f"{sum(one.in_flight for one in ours):,}",
            }
        )
    return rows


def _lines(report: AuditReport, problems_file: Path | None) -> Iterator[str]:
    from penstock.audit.report import select_problems

    share = "" if report.sample is None else f", a sample of {report.sample:.3%} of the assets"
    yield f"{report.assets:,} assets and {report.entries:,} entries looked at{share}"
    for name, words in _EXCLUSIONS.items():
        if count := getattr(report.exclusions, name):
            yield f"{count:,} {words}"
    for line in report.unseen:
        yield f"a sample cannot see: {line}"
    for lost in report.lost:
        yield f"LOST to retention before it was committed: {lost}"
    shown = select_problems(report.problems, _SHOWN)
    for problem in shown:
        yield f"{problem.kind}: {problem.message}"
    total = sum(report.problem_counts.values())
    if total > len(shown):
        by_kind = ", ".join(f"{count:,} {kind}" for kind, count in report.problem_counts.items())
        where = "" if problems_file else "; `--problems FILE` writes all of them there"
        yield f"… and {total - len(shown):,} more: {total:,} problems in all ({by_kind}){where}"
    if problems_file and total:
        yield f"all {total:,} problems are in {problems_file}, one a line"
    yield "balanced" if report.balanced else "NOT balanced"


_EXCLUSIONS = {
    "replays": "records are replays of dead letters, which are no events of their own",
    "before_log": "asset rows or dead letters are of events that retention has removed since",
    "compacted": "asset rows or dead letters are of events that compaction may have removed",
    "other_topics": "asset rows, entries or dead letters are of topics that are not audited",
    "repeated_dead_letters": "dead letters are of an event that had one before",
    "foreign_records": "records of the dead-letter topic were not written by Penstock",
    "being_written": "assets are being written",
}
