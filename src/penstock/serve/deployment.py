"""Deploys the query plane on Ray Serve: one deployment, whose replicas hold everything that a search needs.

There is one deployment and not two because Serve's way from the HTTP proxy to a replica costs some 14 ms at the median
on two cores. Encoders in a deployment of their own would cost a second such hop for each query, more than encoding a
short text. So each replica has its own copy of the query encoders (MiniLM: 90 MB) and batches across its own requests,
and the plane is scaled by replicas (`query.replicas`). For a text encoder that is too large for that, the replicas get
a share of a GPU each (`query.replica_gpus`).
"""

from __future__ import annotations

import errno
import logging
import socket

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client

from penstock.assembly import join_ray, open_store
from penstock.config import Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, UnavailableError
from penstock.observability.node_endpoints import start_keeping
from penstock.observability.process import prepare_process
from penstock.processes import free_port
from penstock.serve.app import build_app
from penstock.store.spec import index_spec

logger = logging.getLogger(__name__)

APPLICATION = "penstock"
DEPLOYMENT = "query"

# Far above the capacity of the store's threads and their queue, so that a full replica answers 429 with its reason,
# instead of Serve letting requests wait without an answer.
_MAX_ONGOING_REQUESTS = 512
# Longer than the default deadline: searches that run when a replica stops are answered.
_GRACEFUL_SHUTDOWN_S = 5.0


def deploy(settings: Settings) -> str:
    """Starts or updates the query plane on a Ray cluster or a local Ray, and returns its URL.

    1. Checks for what would keep a replica from starting, here where the error is one line.
    2. Joins Ray, or starts it.
    3. Starts Serve on the configured address, or uses the one that listens there.
    4. Deploys the application; returns once its replicas answer.

    Raises:
        ConfigError: an unknown profile, missing weights, an index of another model, or a port in use.
        UnavailableError: the store or Ray does not answer, or a replica did not start.
    """
    check(settings)  # 1
    join_ray(settings.ray_address)  # 2
    url = _start_serve(settings)  # 3
    try:
        serve.run(query_application(settings), name=APPLICATION, route_prefix="/")  # 4
    except RuntimeError as exc:
        raise UnavailableError(f"the query plane did not start: {_cause(exc)}") from exc
    logger.info("query plane: listening at %s", url)
    return url


def prepare_replica(settings: Settings) -> None:
    """Makes a replica's process log and count, and keeps the endpoint of its node. Call it first in the replica."""
    prepare_process(settings, "query")
    start_keeping(settings, has_driver=False)


def shutdown() -> None:
    """Stops the query plane after running searches are answered; and Serve, if nothing else runs on it."""
    if not ray.is_initialized() or _get_global_client(raise_if_no_controller_running=False) is None:
        return
    serve.delete(APPLICATION)
    if not serve.status().applications:
        serve.shutdown()  # type: ignore[no-untyped-call]


def check(settings: Settings) -> None:
    """Compares profile, weights and index, without loading an encoder. Raises as `deploy` does."""
    profile = load_profile(settings.profile)
    fingerprints = profile_fingerprints(profile)
    store = open_store(settings.store)
    try:
        store.ensure(index_spec(profile, fingerprints, settings.store))
    finally:
        store.close()


def _start_serve(settings: Settings) -> str:
    """Returns the URL of Serve's proxy. A Serve that already runs on this Ray is used if it has the configured port."""
    host, port = settings.query.host, settings.query.port
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        running = client.http_config
        if port not in (0, running.port):
            raise ConfigError(
                f"the Serve of this Ray already listens on port {running.port}, not on {port}: set query.port to it or "
                "to 0, or stop that Serve (`serve shutdown`)"
            )
        return _url(running.host, running.port)
    port = port or free_port()
    _check_port(host, port)
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port))
    return _url(host, port)


def _check_port(host: str, port: int) -> None:
    """Raises ConfigError if the port is in use, which Serve reports only in the log of one of its actors."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free to listen on
            probe.bind((host, port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            message = (
                f"port {port} of {host} (query.port) is in use. Stop the process that listens there, or set "
                "PENSTOCK_QUERY__PORT to another port, 0 for any free one"
            )
        else:
            message = f"cannot listen on {host}:{port} (query.host, query.port): {exc.strerror or exc}"
        raise ConfigError(message) from exc


def query_application(settings: Settings) -> serve.Application:
    """Returns the application that `deploy` runs. Its replicas open models and connections, where they run."""

    def build() -> FastAPI:  # runs in the replica: models and connections do not travel
        prepare_replica(settings)
        return build_app(settings)

    query = settings.query
    configured = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=query.replicas,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=_GRACEFUL_SHUTDOWN_S,
        ray_actor_options={"num_cpus": query.replica_cpus, "num_gpus": query.replica_gpus},
    )
    deployment: serve.Deployment = configured(serve.ingress(build)())
    return deployment.bind()


def _cause(error: RuntimeError) -> str:
    """Returns the last line of the replica's traceback, as Serve kept it; without one, the error of Serve itself."""
    application = serve.status().applications.get(APPLICATION)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else str(error)


def _url(host: str | None, port: int) -> str:
    """Returns the URL for clients on this machine."""
    reachable = "127.0.0.1" if host in (None, "0.0.0.0", "::") else host
    return f"http://[{reachable}]:{port}" if ":" in str(reachable) else f"http://{reachable}:{port}"
