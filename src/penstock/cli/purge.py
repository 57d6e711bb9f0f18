"""`penstock purge`: erases a tenant, or its assets of one key, and prints a receipt."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, require_kafka, require_store, topic_settings
from penstock.cli.deadletter_options import offloaded_value
from penstock.cli.render import print_json, say, stage_progress
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.ingest.purge import PurgeReceipt, PurgeRequest
    from penstock.store.aliases import AliasTable

_CLOSE_TIMEOUT_S = 10.0


def purge(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Erase this tenant.")],
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Erase only its assets of this key, in all topics.")
    ] = None,
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="Also empty dead letters that name no tenant and cannot be parsed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Erase nothing; show what would be erased.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation at a terminal.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Maximum time to wait for the ingest plane, each time.")
    ] = 300.0,
    as_json: JsonFlag = False,
) -> None:
    """Erase a tenant's entries, media, thumbnails, dead letters and watches, or its assets of one key.

    The ingest plane has to run: it deletes the entries by tombstones, as a producer would. Media that other assets
    refer to stay. The records in Kafka's media topics stay for their retention, and so does what was announced in the
    change feed and in the topic of matches. If it is interrupted, the same command continues.

    Exits with 1 if something is left.
    """
    from penstock.ingest.purge import PurgeRequest

    settings = topic_settings(context)
    require_kafka(settings)
    require_store(settings)
    if not (yes or dry_run) and sys.stdin.isatty():
        extent = f"everything of tenant {tenant}" if key is None else f"the assets of key {key!r} of tenant {tenant}"
        typer.confirm(f"Erase {extent}? This cannot be undone.", abort=True)
    request = PurgeRequest(tenant, key, dry_run, unnamed, timeout)
    try:
        receipt = purge_with(settings, request, quiet=as_json)
    except BaseException:
        if not dry_run:
            record_command(settings, "purge", "failed", tenant=tenant)
        raise
    if not dry_run:
        _record(settings, receipt)
    print_json({**asdict(receipt), "complete": receipt.is_complete}) if as_json else show(receipt)
    raise typer.Exit(0 if dry_run or receipt.is_complete else 1)


def purge_with(settings: Settings, request: PurgeRequest, *, quiet: bool) -> PurgeReceipt:
    """Purges by the services of the settings. Raises as `Purger.purge`, and ConfigError if there is no single index."""
    from penstock.assembly import open_assets, open_store
    from penstock.broker.deadletters import read_dead_letters
    from penstock.broker.letter_purge import LetterPurger
    from penstock.broker.producer import MessageProducer
    from penstock.broker.reader import KafkaReader
    from penstock.broker.topics import group_lag, remove_records_before
    from penstock.broker.watch_messages import deletion_message, read_watches
    from penstock.ingest.deadletters.resolution import Resolver
    from penstock.ingest.purge import Purger
    from penstock.store.milvus.clicks import forget_tenant

    kafka = settings.kafka
    with ExitStack() as opened:
        store = open_store(settings.store)
        opened.callback(store.close)
        require_single_version(store.aliases)
        reader = opened.enter_context(KafkaReader(kafka))
        producer = MessageProducer(kafka)
        opened.callback(producer.close, _CLOSE_TIMEOUT_S)
        watches = kafka.watches_topic
        purger = Purger(
            store=store,
            assets=open_assets(settings),
            resolver=Resolver.of(settings, store.asset_rows, partial(offloaded_value, settings)),
            letters=LetterPurger(reader, producer, partial(remove_records_before, kafka), kafka.dead_letter_topic),
            read_letters=partial(read_dead_letters, kafka),
            read_watches=lambda: read_watches(reader, watches) if watches else [],
            delete_watch=lambda watch: deletion_message(watches, watch.id),
            producer=producer,
            lag=partial(group_lag, kafka),
            forget=partial(forget_tenant, settings.store),
            show=opened.enter_context(stage_progress(quiet=quiet)),
            clock=time.monotonic,
            now_s=time.time,
            sleep=time.sleep,
        )
        return purger.purge(request)


def require_single_version(aliases: AliasTable) -> None:
    """Refuses a store without an index, and one with several versions: what is left in a version would come back.

    Raises:
        ConfigError: says what to do.
    """
    from penstock.errors import ConfigError

    versions = aliases.candidates("asset")
    if not versions:
        raise ConfigError(
            "the store has no index, so that a purge finds nothing to erase. Check store.uri and store.database"
        )
    if len(versions) > 1:
        numbers = ", ".join(str(number) for number in sorted(version.version for version in versions))
        raise ConfigError(
            f"the store has versions {numbers} of the index, and a purge erases only one. End the re-index with "
            "`penstock reindex drop`, then purge"
        )


def show(receipt: PurgeReceipt) -> None:
    """Prints the receipt."""
    would_be = "would be " if receipt.dry_run else ""
    media = receipt.media
    extent = f"tenant {receipt.tenant}" + ("" if receipt.key is None else f", key {receipt.key}")
    say(
        f"{extent}: {receipt.assets:,} assets with {receipt.entries:,} entries {would_be}deleted, "
        f"{receipt.dead_letters:,} dead letters {would_be}emptied, {receipt.watches:,} watches {would_be}deleted, "
        f"{media.removed:,} media ({media.removed_bytes / 1e6:,.1f} MB) {would_be}removed."
    )
    if receipt.choices:
        say(f"{receipt.choices:,} choices of people forgotten.")
    if media.shared:
        say(f"{media.shared:,} media stay, as other assets or dead letters refer to them.")
    if media.young:
        say(f"{media.young:,} media were stored again during the purge: run it again, or leave them to the sweep.")
    if receipt.unnamed:
        say(f"{receipt.unnamed:,} dead letters name no tenant and were left; --unnamed empties them, too.")
    if receipt.left:
        say(f"{receipt.left:,} assets are indexed still, or again: run the same purge again.")


def _record(settings: Settings, receipt: PurgeReceipt) -> None:
    record_command(
        settings,
        "purge",
        "ok" if receipt.is_complete else "cut",
        tenant=receipt.tenant,
        assets=receipt.assets,
        entries=receipt.entries,
        dead_letters=receipt.dead_letters,
        watches=receipt.watches,
        media=receipt.media.removed,
        choices=receipt.choices,
        left=receipt.left,
    )
