"""`penstock restore`: fills an empty index from a backup, and lets the ingest plane replay what came after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.backup import summary
from penstock.cli.common import JsonFlag, connected_settings, of_kept_index, stopped_by_signals
from penstock.cli.render import print_json, say, stage_progress
from penstock.observability.audit_log import Outcome, record_command

if TYPE_CHECKING:
    from penstock.backup import BackupFolder, Manifest, RestoreReport
    from penstock.backup.restoring import RestoreKafka
    from penstock.config import Settings

_CLOSE_TIMEOUT_S = 10.0


def restore(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where `penstock backup` wrote to.")],
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="ID", help="The backup, by `penstock backup URL --list`.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify every part of the backup; restore nothing.")
    ] = False,
    without_kafka: Annotated[
        bool,
        typer.Option("--without-kafka", help="Restore no offsets and no dead letters: for an index to search only."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup, by default the newest, into an empty index of any backend.

    Stop the ingest plane first (or `penstock up`, whose Kafka and Milvus the command then starts by itself), and start
    it afterwards: it replays every event since the backup from Kafka. What the asset store has already is not copied.
    An interrupted restore continues when it is run again.

    Exits with 1 if a part is damaged, or if retention has removed events since the backup; with 2 if the index is not
    empty, an ingest plane runs, another version is served, the topics are others, or a newer Penstock made the backup;
    with 3 if a service is unavailable.
    """
    from penstock.backup import BackupFolder
    from penstock.backup.restoring import verify

    folder = BackupFolder(url)
    manifest = folder.manifest(backup)
    if dry_run:
        with stage_progress(quiet=as_json) as show_stage:
            verify(folder, manifest, show_stage)
        print_json(summary(manifest)) if as_json else say(
            f"Backup {manifest.id} of Penstock {manifest.penstock} is whole: {manifest.counts.assets:,} assets, "
            f"{sum(manifest.counts.entries.values()):,} entries. Its media are verified when they are restored."
        )
        return
    with ExitStack() as opened:
        kept = of_kept_index(connected_settings(context))
        settings = _with_services(kept, manifest, opened, without_kafka=without_kafka)
        report = restore_with(settings, folder, manifest, without_kafka=without_kafka, quiet=as_json)
    outcome: Outcome = "cut" if report.lost else "ok"
    media = report.media.copied
    record_command(settings, "restore", outcome, assets=report.assets, entries=report.entries, media=media)
    print_json(_document(report)) if as_json else show(report, settings)
    raise typer.Exit(1 if report.lost else 0)


def _with_services(settings: Settings, manifest: Manifest, opened: ExitStack, *, without_kafka: bool) -> Settings:
    """Returns settings with addresses and topics; starts the services of the data folder where no `up` runs on it.

    A new data folder takes the profile of the backup: by itself it would choose what is installed.
    """
    from penstock.broker.tenant_topics import with_topics
    from penstock.embedded.supervisor import Supervisor
    from penstock.encoders.profiles import AUTO
    from penstock.encoders.profiles.record import with_recorded_profile

    if settings.profile == AUTO:
        settings = settings.model_copy(update={"profile": manifest.profile})
        with_recorded_profile(settings)
    if settings.store.uri is None or (settings.kafka.bootstrap_servers is None and not without_kafka):
        stop = opened.enter_context(stopped_by_signals())
        supervisor = Supervisor(settings, lambda status: say(f"{status.service}: {status.state}"), stop)
        opened.callback(supervisor.stop)
        settings = supervisor.start_services()
    return settings if without_kafka else with_topics(settings)


def restore_with(
    settings: Settings, folder: BackupFolder, manifest: Manifest, *, without_kafka: bool, quiet: bool
) -> RestoreReport:
    """Restores into the services of the settings. Raises as `penstock.backup.restore`."""
    from penstock.assembly import open_assets, open_store
    from penstock.backup import RestoreTarget
    from penstock.backup import restore as restore_backup

    with ExitStack() as opened:
        store = open_store(settings.store)
        opened.callback(store.close)
        kafka = None if without_kafka else _kafka(settings, opened)
        target = RestoreTarget(store, settings.store, open_assets(settings), kafka)
        show_stage = opened.enter_context(stage_progress(quiet=quiet))
        return restore_backup(folder, manifest, target, on_progress=show_stage)


def _kafka(settings: Settings, opened: ExitStack) -> RestoreKafka:
    from penstock.backup.restoring import RestoreKafka
    from penstock.broker.group_offsets import KafkaGroupOffsets
    from penstock.broker.producer import MessageProducer
    from penstock.broker.reader import KafkaReader
    from penstock.broker.topics import ensure_topics

    producer = MessageProducer(settings.kafka)
    opened.callback(producer.close, _CLOSE_TIMEOUT_S)
    return RestoreKafka(
        reader=opened.enter_context(KafkaReader(settings.kafka)),
        offsets=KafkaGroupOffsets(settings.kafka),
        producer=producer,
        topics=settings.kafka.topics_of(settings.ingest.modalities),
        group=settings.kafka.group,
        dead_letter_topic=settings.kafka.dead_letter_topic,
        create_topics=partial(ensure_topics, settings.kafka, settings.ingest.modalities),
    )


def show(report: RestoreReport, settings: Settings) -> None:
    """Prints what was restored, and what follows."""
    manifest = report.manifest
    say(
        f"{'Continued' if report.continued else 'Restored'} backup {manifest.id} as version {settings.store.version}: "
        f"{report.assets:,} assets with {report.entries:,} entries, {report.media.copied:,} of "
        f"{report.media.present:,} media, {report.letters:,} dead letters; {sum(report.seconds.values()):,.1f} s."
    )
    if report.media.missing_count:
        say(f"{report.media.missing_count:,} media of the backup are missing or damaged, and so are their results.")
    for lost in report.lost:
        say(f"LOST to retention since the backup: {lost}")
    say(
        f"Start the ingest plane: it replays {report.to_replay:,} offsets, {report.left_out:,} assets that changed "
        "during the backup among them. `penstock audit` then shows whether everything is there."
    )


def _document(report: RestoreReport) -> Mapping[str, object]:
    return {
        "backup": summary(report.manifest),
        "continued": report.continued,
        "assets": report.assets,
        "entries": report.entries,
        "left_out": report.left_out,
        "media": asdict(report.media),
        "dead_letters": report.letters,
        "to_replay": report.to_replay,
        "lost": [str(lost) for lost in report.lost],
        "seconds": {step: round(seconds, 3) for step, seconds in report.seconds.items()},
    }
