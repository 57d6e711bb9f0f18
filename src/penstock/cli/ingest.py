"""`penstock ingest`: runs the ingest plane alone."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.common import (
    configure_plane_logging,
    join_embedded_ray,
    require_kafka,
    require_store,
    run_until_signal,
    started_settings,
)


def ingest(
    context: typer.Context,
    *,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait while another driver ingests for this consumer group, then continue."),
    ] = False,
) -> None:
    """Run the ingest plane against the configured Kafka, Milvus and Ray. SIGTERM drains, commits and stops it.

    Addresses that are not configured come from the `penstock up` that runs on the same data folder. One driver at a
    time ingests for a consumer group, in any Ray cluster: a second one exits with code 4.
    """
    if wait:
        context.obj.overrides["ingest"] = {"wait_for_lease": True}
    settings = started_settings(context)
    configure_plane_logging(context, settings, "ingest")
    require_kafka(settings)
    require_store(settings)
    join_embedded_ray(settings)
    from penstock.ingest.plane import run_ingest

    run_until_signal(lambda stop: run_ingest(settings, stop))
