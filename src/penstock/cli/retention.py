"""`penstock retention`: ends the time of assets by the rules of the settings, or counts them."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka, require_store
from penstock.cli.render import print_json, print_table, say
from penstock.observability.audit_log import record_command


def retention(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; count the assets.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete the entries of assets that are older than the rules of retention.rules allow.

    The ingest plane does this every hour (retention.interval_s). It carries the deletions out, and the audit counts
    their events as expired. A newer version of an asset stays.
    """
    from penstock.errors import ConfigError
    from penstock.ingest.retention import expire_assets

    settings = connected_settings(context)
    if not settings.retention.rules:
        raise ConfigError("there are no retention.rules, so that no asset expires")
    require_kafka(settings)
    require_store(settings)
    counts = expire_assets(settings, dry_run=dry_run)
    if not dry_run:
        record_command(settings, "retention", "ok", assets=sum(counts.values()))
    if as_json:
        print_json({"assets": dict(counts), "dry_run": dry_run})
        return
    print_table([{"tenant": tenant, "assets": f"{count:,}"} for tenant, count in sorted(counts.items())])
    say(f"{sum(counts.values()):,} assets {'would expire' if dry_run else 'expire'}")
