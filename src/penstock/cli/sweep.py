"""`penstock sweep`: removes media that nothing refers to, or shows what would be removed."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, of_kept_index, require_kafka, require_store
from penstock.cli.render import print_json, say
from penstock.observability.audit_log import Outcome, record_command

if TYPE_CHECKING:
    from penstock.assets import SweepReport


def sweep(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; show what would be removed.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Remove however much it is, and make this index the owner of the asset store."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove media from the asset store that no asset and no dead letter refers to.

    The ingest plane does this every hour. Nothing is removed where the index is empty or not the owner of the store, or
    where more than assets.max_swept of the media would go; then it exits with 1. Look with --dry-run whether the index
    is the right one, and use --force if it is. What was removed rests for assets.rest_s in the folder `trash` of the
    store, and the next sweep puts back what is referred to again.
    """
    from penstock.ingest.asset_gc import sweep_assets

    settings = of_kept_index(connected_settings(context))
    require_kafka(settings)
    require_store(settings)
    report = sweep_assets(settings, now_s=time.time(), force=force, dry_run=dry_run)
    if not dry_run:
        outcome: Outcome = "ok" if report.held is None else "refused"
        record_command(settings, "sweep", outcome, removed=0 if report.held else report.removed, purged=report.purged)
    print_json(asdict(report)) if as_json else show(report, dry_run=dry_run)
    raise typer.Exit(0 if report.held is None else 1)


def show(report: SweepReport, *, dry_run: bool) -> None:
    """Prints what was removed, or why nothing was."""
    conditional = dry_run or report.held is not None
    say(
        f"{report.removed:,} of {report.checked:,} media ({report.removed_bytes / 1e6:,.1f} MB) "
        f"{'would be' if conditional else 'were'} removed; {report.too_young:,} more are younger than assets.grace_s."
    )
    if report.restored or report.purged:
        moved = "would be put back" if dry_run else "were put back"
        say(f"{report.restored:,} {moved} from the trash, {report.purged:,} were removed permanently.")
    if report.held is not None:
        say(f"Nothing was removed: {report.held}. Use --force if that is right.")
