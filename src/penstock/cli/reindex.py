"""`penstock reindex`: fills a new version of the index beside the served one, shows the progress, and ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import (
    JsonFlag,
    configure_plane_logging,
    connected_settings,
    join_embedded_ray,
    of_kept_index,
    require_kafka,
    require_store,
    run_until_signal,
    started_settings,
)
from penstock.cli.reindex_switch import add_switch
from penstock.cli.render import print_json, print_table, say
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.encoders.profiles import TransformChoice
    from penstock.versions import MissingAsset, Progress, Reindex

app = typer.Typer(help="Fill the index again with other models, while the present one answers.", no_args_is_help=True)

_MAX_SHOWN = 20

_ProfileOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Models of the new version. Needed to begin; then those are kept."),
]
_MaxRateOption = Annotated[
    float | None,
    typer.Option(
        metavar="N", min=0.1, help="Events per second at most while it fills. Default: as many as live ones allow."
    ),
]


@app.callback()
def reindex() -> None:
    """Fill the index again with other models, while the present one answers."""


@app.command()
def start(
    context: typer.Context,
    *,
    profile: _ProfileOption = None,
    transform: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Map the present vectors by this transform; no media are read."),
    ] = None,
    transform_of: Annotated[
        str, typer.Option(metavar="passage|joint", help="Model whose space the transform maps.")
    ] = "passage",
    max_rate: _MaxRateOption = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Fill it also with the present models, after a change of other settings.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Begin also with the models of the re-index that ended last.")
    ] = False,
) -> None:
    """Run the plane that feeds a new version of the index. SIGTERM drains, commits and stops it.

    It begins a re-index, or continues the one that is under way: it resumes wherever an earlier plane ended, and runs
    until `penstock reindex drop`, as both versions are fed until then. After that the same command is refused, so that
    no supervisor begins again. Only one plane at a time feeds a version; a second one waits. It uses the settings of
    the version that is served, and the Ray of `penstock up` where that runs.
    """
    settings = started_settings(context)
    configure_plane_logging(context, settings, "reindex")
    require_kafka(settings)
    require_store(settings)
    join_embedded_ray(settings)
    under_way, begins = _begin(settings, profile, _transform_choice(transform, transform_of), again=again)
    say(
        f"Version {under_way.to_version} of the index is filled with {under_way.profile} by the group "
        f"{under_way.group}; version {under_way.from_version} answers. `penstock reindex status` shows how far it is."
    )
    from penstock.ingest.reindex.plane import run_reindex

    run_until_signal(
        lambda stop: run_reindex(settings, under_way, stop, begins=begins, max_per_s=max_rate, anyway=anyway)
    )


def _transform_choice(file: Path | None, of: str) -> TransformChoice | None:
    from penstock.encoders.profiles import TRANSFORMED_ROLES, TransformChoice
    from penstock.errors import UsageError

    role = next((role for role in TRANSFORMED_ROLES if role == of), None)
    if role is None:
        raise UsageError(f"--transform-of {of!r} is neither passage nor joint")
    return None if file is None else TransformChoice(role, file)


def _begin(
    settings: Settings, profile: str | None, transform: TransformChoice | None, *, again: bool
) -> tuple[Reindex, bool]:
    import time

    from penstock.assembly import open_assets, open_store
    from penstock.ingest.reindex.starting import begin_reindex

    store = open_store(settings.store)
    try:
        result = begin_reindex(
            settings,
            open_assets(settings),
            store.aliases,
            profile=profile,
            transform=transform,
            again=again,
            now_ms=time.time_ns() // 1_000_000,
        )
    finally:
        store.close()
    if result[1]:
        record_command(settings, "reindex start", "ok", version=result[0].to_version)
    return result


@app.command()
def status(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Show the re-index that is under way: its progress, rate and time left, and assets that are not available.

    Exits with 1 if assets are missing, and with 3 if there is no index on this data folder or in the settings.
    """
    from penstock.assembly import open_assets
    from penstock.versions import read_missing, read_progress, read_reindex

    settings = of_kept_index(connected_settings(context))
    notes = open_assets(settings)
    under_way = read_reindex(notes)
    if under_way is None and settings.assets.url is None:
        require_store(settings)  # an empty data folder knows of no re-index, whatever there is elsewhere
    progress, missing = read_progress(notes), read_missing(notes)
    if as_json:
        print_json(_status_json(under_way, progress, missing))
    elif under_way is None:
        say("No re-index is under way.")
    else:
        _show(under_way, progress, missing)
    raise typer.Exit(1 if progress is not None and progress.missing else 0)


def _status_json(
    under_way: Reindex | None, progress: Progress | None, missing: Sequence[MissingAsset]
) -> dict[str, object]:
    counted = None if progress is None else {**asdict(progress), "left_s": progress.left_s}
    return {
        "reindex": None if under_way is None else asdict(under_way),
        "progress": counted,
        "missing": [{**asdict(entry.asset), "reason": entry.reason} for entry in missing],
    }


def _show(under_way: Reindex, progress: Progress | None, missing: Sequence[MissingAsset]) -> None:
    row: dict[str, object] = {
        "versions": f"{under_way.from_version} to {under_way.to_version}",
        "phase": under_way.phase.value,
        "profile": under_way.profile,
        "group": under_way.group,
    }
    if progress is not None:
        row |= {
            "assets": f"{progress.done:,} of {progress.total:,}",
            "missing": f"{progress.missing:,}",
            "rate": f"{progress.rate_per_s:,.1f}/s",
            "left": _duration(progress.left_s),
            "lag": f"{progress.lag:,}",
        }
    print_table([row])
    for entry in missing[:_MAX_SHOWN]:
        say(f"missing: {entry.asset}: {entry.reason}")
    if progress is not None and progress.missing > _MAX_SHOWN:
        say(f"{progress.missing - _MAX_SHOWN:,} more are missing; --json names them")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@app.command()
def drop(
    context: typer.Context,
    *,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="Longest wait for the plane of that version.")
    ] = 120.0,
    as_json: JsonFlag = False,
) -> None:
    """Remove the version of the index that is not served, and end the re-index.

    Before `penstock reindex switch` that is the new version, afterwards the old one: there is no way back then. The
    plane that feeds it ends by itself. It may be interrupted, and is continued by running it again.
    """
    settings = of_kept_index(connected_settings(context))
    require_kafka(settings)
    require_store(settings)
    goes, stays = _drop(settings, wait_s)
    record_command(settings, "reindex drop", "ok", removed=goes, kept=stays)
    if as_json:
        print_json({"removed": goes, "kept": stays})
        return
    say(f"Version {goes} of the index is removed; version {stays} stays.")


def _drop(settings: Settings, wait_s: float) -> tuple[int, int]:
    import time
    from contextlib import closing
    from functools import partial

    from penstock.assembly import open_assets, open_store
    from penstock.broker.kafka_control import KafkaControlGroup
    from penstock.ingest.reindex.dropping import drop_version, owner_name
    from penstock.versions import version_settings
    from penstock.versions.switching import finish_switch

    def members(group: str) -> int:
        kafka = settings.kafka.model_copy(update={"group": group})
        with closing(KafkaControlGroup(kafka, settings.ingest.lease_timeout_s)) as control:
            return control.state().members

    with closing(open_store(settings.store)) as store:
        notes = open_assets(settings)
        finish_switch(store, notes)
        return drop_version(
            notes,
            store.aliases,
            owner_of=partial(owner_name, settings.store.database),
            group_of=lambda under_way, version: version_settings(settings, under_way, version).kafka.group,
            members=members,
            sleep=time.sleep,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
            wait_s=wait_s,
        )


add_switch(app)
