"""`penstock audit`: proves that every event has exactly one outcome, or lists those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, of_kept_index, require_kafka, require_store, topic_settings
from penstock.cli.render import print_json, print_line, print_table, stage_progress

if TYPE_CHECKING:
    from penstock.audit import AuditProblem, AuditReport, FeedbackAudit, PartitionReport
    from penstock.config import Settings

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
    index_version: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Audit this version of the index, with the group that feeds it. Default: store.version."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove from Kafka and the store that every event has exactly one outcome, and list those that do not.

    Exits with 0 if the counts balance, with 1 if not, and with 3 if Kafka or Milvus is unavailable. Nothing is changed,
    and ingestion and search may continue during the audit.
    """
    from penstock.audit import run_audit, run_feedback_audit

    settings = of_kept_index(topic_settings(context))
    require_kafka(settings)
    require_store(settings)
    if index_version is not None:
        settings = _of_version(settings, index_version)
    with stage_progress() as show_stage, _written_to(problems_file) as write:
        report = run_audit(
            settings,
            sample=sample,
            on_progress=lambda step: show_stage(step.stage, step.done, step.total),
            on_problem=write,
        )
    feedback = run_feedback_audit(settings) if settings.feedback.enabled else None
    if as_json:
        print_json({**report_json(report), **({} if feedback is None else {"feedback": feedback_json(feedback)})})
    else:
        show(report, problems_file)
        if feedback is not None:
            show_feedback(feedback)
    raise typer.Exit(0 if report.balanced and (feedback is None or feedback.balanced) else 1)


def _of_version(settings: Settings, version: int) -> Settings:
    """Returns the settings with which a version of the index is fed.

    Raises:
        ConfigError: nothing says which consumer group feeds it.
    """
    from penstock.assembly import open_assets
    from penstock.errors import ConfigError
    from penstock.versions import read_reindex, version_settings

    if version == settings.store.version:
        return settings
    reindex = read_reindex(open_assets(settings))
    if reindex is None or version not in (reindex.from_version, reindex.to_version):
        raise ConfigError(
            f"--index-version {version}: the index has version {settings.store.version}, and no re-index under way "
            "has this one"
        )
    return version_settings(settings, reindex, version)


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
        "expired": report.expired,
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


def feedback_json(report: FeedbackAudit) -> Mapping[str, object]:
    """Returns the audit of feedback as JSON values."""
    return {**asdict(report), "missing": list(report.missing), "balanced": report.balanced}


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
    print_line("")
    for line in _lines(report, problems_file):
        print_line(line)


def show_feedback(report: FeedbackAudit) -> None:
    """Prints the balance of feedback, and the events without an outcome."""
    print_line(
        f"feedback: {report.events:,} events = {report.remembered:,} remembered + {report.superseded:,} superseded + "
        f"{report.deleted:,} of deleted assets + {report.expired:,} expired + {report.dead_lettered:,} dead-lettered"
    )
    for position in report.missing[:_MAX_SHOWN]:
        print_line(f"missing: the event of feedback {position} has no outcome")
    if report.unsettled:
        print_line(f"{report.unsettled:,} events of feedback are not settled yet")
    print_line("feedback is balanced" if report.balanced else "feedback is NOT balanced")


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
                "+ expired": f"{ended[Outcome.EXPIRED]:,}",
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
