"""`penstock serve`: runs the query plane alone."""

from __future__ import annotations

import threading

import typer

from penstock.cli.common import (
    configure_plane_logging,
    join_embedded_ray,
    require_store,
    run_until_signal,
    started_settings,
)
from penstock.cli.render import say


def serve(context: typer.Context) -> None:
    """Run the query plane against the configured Milvus and Ray. SIGTERM stops it.

    Addresses that are not configured come from the `penstock up` that runs on the same data folder.
    """
    settings = started_settings(context)
    configure_plane_logging(context, settings, "serve")
    require_store(settings)
    join_embedded_ray(settings)
    from penstock.observability.node_endpoints import keep_endpoints
    from penstock.serve.deployment import deploy, shutdown

    def plane(stop: threading.Event) -> None:
        try:
            url = deploy(settings)
            if settings.metrics.enabled:
                threading.Thread(target=keep_endpoints, args=(stop, settings), name="endpoints", daemon=True).start()
            say(f"search: {url}  documentation: {url}/docs")
            stop.wait()
        finally:
            shutdown()

    run_until_signal(plane)
