"""`penstock backup`: copies the index, its offsets, dead letters and media to a URL while everything runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, of_kept_index, require_kafka, require_store, topic_settings
from penstock.cli.render import print_json, print_table, say, stage_progress
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.backup import BackupFolder, BackupReport, Manifest
    from penstock.backup.pruning import PruneReport
    from penstock.config import Settings

_MAX_NAMED = 5


def backup(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="Any fsspec URL, such as s3://bucket/backups, or a path.")],
    keep: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Remove all but the newest N backups there, and their media."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the backups there, and make none.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Back up the index: entries with vectors, asset rows, offsets, dead letters and media, at a URL.

    Ingestion and search continue. Media are copied by their hash, and only those that no earlier backup there has.
    `penstock restore` brings the index back, into another backend too, and the ingest plane replays what came after it.

    Exits with 3 if Kafka, Milvus, the asset store or the URL is unavailable.
    """
    from penstock.backup import BackupFolder
    from penstock.backup.pruning import prune

    folder = BackupFolder(url)
    if list_:
        manifests = [folder.manifest(id_) for id_ in folder.ids()]
        print_json([summary(manifest) for manifest in manifests]) if as_json else print_table(
            [_row(manifest) for manifest in manifests]
        )
        return
    settings = of_kept_index(topic_settings(context))
    require_kafka(settings)
    require_store(settings)
    report = backup_with(settings, folder, quiet=as_json)
    pruned = None if keep is None else prune(folder, keep, now_s=time.time())
    counts = report.manifest.counts
    record_command(
        settings, "backup", "ok", assets=counts.assets, entries=sum(counts.entries.values()), media=counts.media
    )
    print_json(_document(report, pruned)) if as_json else show(report, pruned)


def backup_with(settings: Settings, folder: BackupFolder, *, quiet: bool) -> BackupReport:
    """Backs up the index of the settings. Raises as `make_backup`, and ConfigError if there is no such index."""
    from penstock.assembly import open_assets, open_store
    from penstock.backup import BackupSource, make_backup
    from penstock.broker.reader import KafkaReader
    from penstock.encoders.profiles.record import with_selected_profile

    store = open_store(settings.store)
    try:
        spec = store.recorded_spec(settings.store.version)
        store.use_version(settings.store.version, spec.vectors)
        aliases = [*(collection.value for collection in spec.vectors), "asset"]
        served = {alias: str(physical) for alias in aliases if (physical := store.aliases.served(alias)) is not None}
        with KafkaReader(settings.kafka) as reader, stage_progress(quiet=quiet) as show_stage:
            source = BackupSource(
                store=store,
                spec=spec,
                reader=reader,
                assets=open_assets(settings),
                topics=settings.kafka.topics_of(settings.ingest.modalities),
                dead_letter_topic=settings.kafka.dead_letter_topic,
                group=settings.kafka.group,
                profile=with_selected_profile(settings).profile,
                aliases=served,
            )
            return make_backup(source, folder, on_progress=show_stage)
    finally:
        store.close()


def show(report: BackupReport, pruned: PruneReport | None) -> None:
    """Prints what the backup has, and what is not in it."""
    manifest, media = report.manifest, report.media
    counts = manifest.counts
    say(
        f"Backup {manifest.id}: {counts.assets:,} assets with {sum(counts.entries.values()):,} entries, "
        f"{counts.letters:,} dead letters, {counts.media:,} media ({counts.media_bytes / 1e6:,.1f} MB), of which "
        f"{media.copied:,} ({media.copied_bytes / 1e6:,.1f} MB) were copied; {sum(report.seconds.values()):,.1f} s."
    )
    if counts.left_out:
        say(f"{counts.left_out:,} assets changed during it: a restore replays them from Kafka.")
    if counts.damaged:
        say(f"{counts.damaged:,} assets have other entries than their rows count: `penstock audit` names them.")
    if counts.missing_media:
        names = ", ".join(media.missing[:_MAX_NAMED])
        say(f"{counts.missing_media:,} media that assets refer to are not in the asset store: {names} …")
    if pruned is not None and (pruned.backups or pruned.unfinished):
        say(
            f"{pruned.backups:,} older backups, {pruned.unfinished:,} unfinished ones and {pruned.media:,} media "
            f"({pruned.media_bytes / 1e6:,.1f} MB) were removed."
        )
    if pruned is not None and pruned.damaged:
        say(
            f"{len(pruned.damaged):,} backups are damaged and not counted: {', '.join(pruned.damaged)}. No media are "
            "removed until you have removed them."
        )


def summary(manifest: Manifest) -> Mapping[str, object]:
    """Returns what a backup has as JSON values, without its parts."""
    return {
        "id": manifest.id,
        "penstock": manifest.penstock,
        "began_ms": manifest.began_ms,
        "ended_ms": manifest.ended_ms,
        "profile": manifest.profile,
        "index_version": manifest.spec.version,
        "group": manifest.group,
        "aliases": manifest.aliases,
        "counts": asdict(manifest.counts),
        "offsets": [asdict(offset) for offset in manifest.offsets],
        "bytes": sum(part.size for part in manifest.every_part),
    }


def _row(manifest: Manifest) -> Mapping[str, object]:
    counts = manifest.counts
    return {
        "backup": manifest.id,
        "version": manifest.spec.version,
        "profile": manifest.profile,
        "assets": f"{counts.assets:,}",
        "entries": f"{sum(counts.entries.values()):,}",
        "dead letters": f"{counts.letters:,}",
        "media": f"{counts.media:,}",
        "MB without media": f"{sum(part.size for part in manifest.every_part) / 1e6:,.1f}",
    }


def _document(report: BackupReport, pruned: PruneReport | None) -> Mapping[str, object]:
    return {
        **summary(report.manifest),
        "media": asdict(report.media),
        "pruned": None if pruned is None else asdict(pruned),
        "seconds": {step: round(seconds, 3) for step, seconds in report.seconds.items()},
    }
