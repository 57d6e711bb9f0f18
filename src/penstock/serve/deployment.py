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
import ssl
from collections.abc import Mapping
from typing import Literal

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client

from penstock.assembly import join_ray, open_assets, open_store
from penstock.auth import check_exposure, open_authenticator
from penstock.config import QuerySettings, Settings, keep_secrets_in_files
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, UnavailableError
from penstock.observability.node_endpoints import start_keeping
from penstock.observability.process import prepare_process
from penstock.processes import free_port
from penstock.serve.shared_answer_logs import end_shared_logs, replica_answer_logs
from penstock.serve.versions import VersionSource, VersionSwitch, build_versions_app
from penstock.store.spec import index_spec

logger = logging.getLogger(__name__)

APPLICATION = "penstock"
DEPLOYMENT = "query"

# Far above the capacity of the store's threads and their queue, so that a full replica answers 429 with its reason,
# instead of Serve letting requests wait without an answer.
_MAX_ONGOING_REQUESTS = 512
_PROXIES: Mapping[str, Literal["HeadOnly", "EveryNode"]] = {"head": "HeadOnly", "every": "EveryNode"}
# Longer than the default deadline: searches that run when a replica stops are answered.
_GRACEFUL_SHUTDOWN_S = 5.0


def deploy(settings: Settings) -> str:
    """Starts or updates the query plane on a Ray cluster or a local Ray, and returns its URL.

    1. Checks for what would keep a replica from starting, here where the error is one line.
    2. Joins Ray, or starts it.
    3. Starts Serve on the configured address, or uses the one that listens there.
    4. Deploys the application; returns once its replicas answer.

    Raises:
        ConfigError: an unknown profile, missing weights, an index of another model, a port in use, no file of API keys,
            or an address that others reach while no request needs credentials.
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
    end_shared_logs()
    if not serve.status().applications:
        serve.shutdown()  # type: ignore[no-untyped-call]


def check(settings: Settings) -> None:
    """Compares credentials, addresses, profile, weights and index, without loading an encoder. Raises as `deploy`."""
    open_authenticator(settings)
    check_exposure(settings, "query.host", settings.query.host)
    if settings.metrics.enabled and not settings.metrics.has_secret("token"):
        check_exposure(settings, "metrics.host", settings.metrics.host)
    store = open_store(settings.store, for_queries=True)
    try:
        source = VersionSource(settings, store, open_assets(settings))
        versions = source.read()
        served = source.settings_of(versions, versions.served)
        profile = load_profile(served.profile)
        store.ensure(index_spec(profile, profile_fingerprints(profile), served.store))
        store.channels()  # refuses what the aliases serve, which may be of an older Penstock
    finally:
        store.close()


def check_running_serve(settings: Settings) -> None:
    """Refuses the address of the Serve of this Ray, if it runs, as `check` does that of the settings.

    Raises:
        ConfigError: others reach it while no request needs credentials.
    """
    running = _get_global_client(raise_if_no_controller_running=False) if ray.is_initialized() else None
    if running is not None:
        check_exposure(settings, "the address of the Serve of this Ray", running.http_config.host or "127.0.0.1")


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
        check_running_serve(settings)
        return _url(running.host, running.port, has_tls=running.ssl_certfile is not None)
    port = port or free_port()
    _check_port(host, port)
    options = HTTPOptions(host=host, port=port, **_tls_options(settings.query))
    serve.start(proxy_location=_PROXIES[settings.query.proxies], http_options=options)
    return _url(host, port, has_tls=settings.query.has_tls)


def _tls_options(query: QuerySettings) -> dict[str, str]:
    """Returns Serve's options of TLS, after a look at the files: Serve reports them in the log of one of its actors.

    Raises:
        ConfigError: they cannot be used.
    """
    if query.tls_cert_file is None or query.tls_key_file is None:
        return {}
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(query.tls_cert_file, query.tls_key_file)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise ConfigError(
            f"query.tls_cert_file and query.tls_key_file cannot be used ({query.tls_cert_file}: {exc}). They have to "
            "be files in PEM that belong together"
        ) from exc
    return {
        "ssl_certfile": str(query.tls_cert_file.absolute()),
        "ssl_keyfile": str(query.tls_key_file.absolute()),
    }


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
    """Returns the application that `deploy` runs. Its replicas open models and connections, where they run.

    They get the files of secrets, not the secrets.
    """
    settings = keep_secrets_in_files(settings, "serve")

    def build() -> VersionSwitch:  # runs in the replica: models and connections do not travel
        prepare_replica(settings)
        check_running_serve(settings)  # also what `serve run` or `serve deploy` built before it joined Ray
        return build_versions_app(settings, replica_answer_logs())

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


def _url(host: str | None, port: int, *, has_tls: bool) -> str:
    """Returns the URL for clients on this machine."""
    scheme = "https" if has_tls else "http"
    reachable = "127.0.0.1" if host in (None, "0.0.0.0", "::") else host
    return f"{scheme}://[{reachable}]:{port}" if ":" in str(reachable) else f"{scheme}://{reachable}:{port}"
