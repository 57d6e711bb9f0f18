"""The checks of `penstock preflight` that need no service: listening addresses, credentials, transport, file modes.

Each says what is so, and what to do where it is not as it should be. Only what is unsafe or will not start fails.
"""

from __future__ import annotations

import importlib.metadata
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

from penstock.config import Settings, is_loopback
from penstock.config.section import FILE_SUFFIX
from penstock.observability.audit_log import audit_log_file

_MIN_RAY = (2, 52)  # the first with authentication by token


class CheckResult(StrEnum):
    """The results of a check."""

    OK = "ok"
    NOTE = "note"  # allowed, and to be known
    FAILS = "fails"
    UNCHECKED = "unchecked"  # cannot be seen from here


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """One line of the table: what was checked, its result, and what to do unless it is `OK`."""

    area: str
    subject: str
    result: CheckResult
    detail: str = ""


def settings_checks(settings: Settings, environment: Mapping[str, str]) -> Iterator[PreflightCheck]:
    """Yields the checks of the settings, of the environment and of the files that they name."""
    yield from _callers(settings)
    yield from _http(settings)
    yield from _producers(settings)
    yield from _kafka(settings)
    yield from _store(settings)
    yield from _ray(settings, environment)
    yield from _files(settings, environment)
    yield from _traces(settings)
    yield from _network(environment)


def _callers(settings: Settings) -> Iterator[PreflightCheck]:
    auth = settings.auth
    exposed = [host for host in (settings.query.host, settings.metrics.host) if not is_loopback(host)]
    if auth.mode != "none":
        yield PreflightCheck("callers", f"auth.mode is {auth.mode}", CheckResult.OK)
    elif not exposed:
        detail = "every process and user of this machine reads every tenant"
        yield PreflightCheck("callers", "auth.mode is none, on loopback", CheckResult.NOTE, detail)
    elif auth.allow_anonymous:
        detail = f"whatever reaches {exposed[0]} reads every tenant, unless a proxy in front authenticates"
        yield PreflightCheck("callers", "auth.mode is none, by auth.allow_anonymous", CheckResult.NOTE, detail)
    else:
        detail = f"the planes do not start on {exposed[0]}: set auth.mode to keys or oidc"
        yield PreflightCheck("callers", "auth.mode is none", CheckResult.FAILS, detail)


def _http(settings: Settings) -> Iterator[PreflightCheck]:
    for name, host, certificate in (
        ("query", settings.query.host, settings.query.tls_cert_file),
        ("metrics", settings.metrics.host, settings.metrics.tls_cert_file),
    ):
        if certificate is not None:
            yield PreflightCheck("transport", f"{name}: TLS", CheckResult.OK)
        elif is_loopback(host):
            yield PreflightCheck("transport", f"{name}: http on loopback", CheckResult.OK)
        else:
            detail = f"set {name}.tls_cert_file, or end TLS in a proxy in front and let only that one in"
            yield PreflightCheck("transport", f"{name}: http on {host}", CheckResult.NOTE, detail)
    if not is_loopback(settings.query.host) and not settings.query.hosts:
        detail = "set query.hosts to the names of this server, so that no other site's page reaches it by its own name"
        yield PreflightCheck("transport", "query: any host name is taken", CheckResult.NOTE, detail)


def _producers(settings: Settings) -> Iterator[PreflightCheck]:
    if settings.kafka.tenants is None and settings.auth.mode != "none" and settings.kafka.bootstrap_servers is not None:
        detail = (
            "ingest does not start before kafka.tenants says whose events a topic carries: a pattern, a map or header"
        )
        yield PreflightCheck("producers", "nothing says whose the topics are", CheckResult.FAILS, detail)
    elif settings.kafka.tenants in (None, "header"):
        detail = "a client that may write to a topic writes for every tenant: set kafka.tenants, and ACLs on the topics"
        yield PreflightCheck("producers", "tenants are named by messages", CheckResult.NOTE, detail)
    else:
        yield PreflightCheck("producers", "topics belong to tenants", CheckResult.OK)
    if settings.replay.allow_unsigned:
        detail = (
            "a producer can pin an asset by a forged header: unset replay.allow_unsigned once the index is filled from "
            "topics with replays of a release without signatures"
        )
        yield PreflightCheck("producers", "replays need no signature", CheckResult.NOTE, detail)
    if settings.replay.has_secret("key"):
        yield PreflightCheck("producers", "replays are signed by replay.key", CheckResult.OK)
    elif settings.ray_address is None or is_loopback(_host_of(settings.ray_address)):
        yield PreflightCheck("producers", "replays are signed by a key of this machine", CheckResult.OK)
    else:
        detail = "each node would make a key of its own and refuse the replays of others: set replay.key_file on all"
        yield PreflightCheck("producers", "without replay.key on several nodes", CheckResult.FAILS, detail)


def _kafka(settings: Settings) -> Iterator[PreflightCheck]:
    kafka = settings.kafka
    if kafka.bootstrap_servers is None:
        return
    hosts = [server.strip().rpartition(":")[0] for server in kafka.bootstrap_servers.split(",")]
    local = all(is_loopback(host) for host in hosts)
    if kafka.uses_tls:
        yield PreflightCheck("transport", f"Kafka: {kafka.security_protocol}", CheckResult.OK)
    elif local:
        yield PreflightCheck("transport", "Kafka: not encrypted, on loopback", CheckResult.OK)
    else:
        detail = "media and keys cross the network as they are: set kafka.security_protocol to SSL or SASL_SSL"
        yield PreflightCheck("transport", "Kafka: not encrypted", CheckResult.FAILS, detail)
    if kafka.uses_tls and not kafka.ssl_check_hostname:
        detail = "any certificate of the same CA is taken: unset kafka.ssl_check_hostname"
        yield PreflightCheck("transport", "Kafka: host names are not checked", CheckResult.FAILS, detail)


def _store(settings: Settings) -> Iterator[PreflightCheck]:
    store = settings.store
    if store.uri is None or "://" not in store.uri:
        return
    parts = urlsplit(store.uri)
    local = is_loopback(parts.hostname or "")
    if parts.scheme == "https" or local:
        yield PreflightCheck("transport", f"store: {parts.scheme}" + (" on loopback" if local else ""), CheckResult.OK)
    else:
        detail = "vectors and texts cross the network as they are: use https in store.uri"
        yield PreflightCheck("transport", "store: not encrypted", CheckResult.FAILS, detail)
    if local:
        return
    if not store.has_secret("token"):
        detail = "whatever reaches it reads and deletes every tenant: set store.token, and authorization in Milvus"
        yield PreflightCheck("store", "without a user", CheckResult.FAILS, detail)
    if not store.has_secret("readonly_token"):
        detail = "the query plane may also write and drop: set store.readonly_token to a user that only reads"
        yield PreflightCheck("store", "one user for both planes", CheckResult.NOTE, detail)


def _ray(settings: Settings, environment: Mapping[str, str]) -> Iterator[PreflightCheck]:
    version = tuple(int(part) for part in importlib.metadata.version("ray").split(".")[:2])
    result = CheckResult.OK if version >= _MIN_RAY else CheckResult.FAILS
    detail = "" if result is CheckResult.OK else "older ones cannot demand a token: install ray>=2.52"
    yield PreflightCheck("Ray", f"version {'.'.join(map(str, version))}", result, detail)
    address = settings.ray_address
    if address is None:
        yield PreflightCheck("Ray", "its own, with a token", CheckResult.OK)
        return
    host = _host_of(address)
    if environment.get("RAY_AUTH_MODE") == "token":
        yield PreflightCheck("Ray", "the cluster demands a token", CheckResult.OK)
    else:
        detail = "whatever reaches it runs code with all rights of both planes: set RAY_AUTH_MODE=token on its nodes"
        result = CheckResult.NOTE if is_loopback(host) else CheckResult.FAILS
        yield PreflightCheck("Ray", f"{address} without a token", result, detail)
    if environment.get("RAY_USE_TLS") != "1" and not is_loopback(host):
        detail = "media cross its network as they are: set RAY_USE_TLS=1, or encrypt the network between its nodes"
        yield PreflightCheck("Ray", "not encrypted", CheckResult.NOTE, detail)


def _host_of(ray_address: str) -> str:
    return urlsplit(ray_address if "//" in ray_address else f"//{ray_address}").hostname or ""


def _files(settings: Settings, environment: Mapping[str, str]) -> Iterator[PreflightCheck]:
    """Yields the modes of the data folder and of the files that hold secrets or records of callers."""
    if settings.data_dir.is_dir():
        yield _mode(settings.data_dir, 0o700)
    private = [settings.auth.keys_file or settings.data_dir / "keys.json", audit_log_file(settings)]
    private += [Path(environment.get("PENSTOCK_CONFIG", "penstock.toml")), *secret_files(settings)]
    for path in dict.fromkeys(private):
        if path.is_file() and not _is_mounted_secret(path):
            yield _mode(path, 0o600)


def secret_files(model: BaseModel) -> Iterator[Path]:
    """Yields the files that hold secrets of these settings."""
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from secret_files(value)
        elif (
            name.endswith(FILE_SUFFIX)
            and isinstance(value, Path)
            and name.removesuffix(FILE_SUFFIX) in (type(model).model_fields)
        ):
            yield value


def _is_mounted_secret(path: Path) -> bool:
    """Returns whether Kubernetes mounted the file: its link leads into a folder that only this pod has."""
    return path.is_symlink() and "..data" in os.readlink(path)  # noqa: PTH115 - one step, not the end of the link


def _mode(path: Path, most: int) -> PreflightCheck:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & ~most == 0:
        return PreflightCheck("files", f"{path}: {mode:04o}", CheckResult.OK)
    detail = f"other users of this machine can open it: chmod {most:o} {path}"
    return PreflightCheck("files", f"{path}: {mode:04o}", CheckResult.FAILS, detail)


def _traces(settings: Settings) -> Iterator[PreflightCheck]:
    output = settings.audit_log.output
    if output == "off" or (output == "auto" and settings.auth.mode == "none"):
        detail = "nothing records who searched what: set audit_log.output"
        yield PreflightCheck("traces", "no audit log", CheckResult.NOTE, detail)
    else:
        yield PreflightCheck("traces", f"audit log: {output}", CheckResult.OK)
    if settings.audit_log.text:
        detail = "the audit log has what people searched for: unset audit_log.text unless that is meant"
        yield PreflightCheck("traces", "texts of questions are kept", CheckResult.NOTE, detail)


def _network(environment: Mapping[str, str]) -> Iterator[PreflightCheck]:
    if "KUBERNETES_SERVICE_HOST" in environment:
        detail = "a pod cannot see its NetworkPolicies: `kubectl get networkpolicy`, and networkPolicy of the chart"
        yield PreflightCheck("network", "NetworkPolicies", CheckResult.UNCHECKED, detail)
