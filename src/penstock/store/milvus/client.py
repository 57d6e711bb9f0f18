"""The connection to Milvus: connects at first use, translates errors, and switches off retries.

Uses private parts of pymilvus, which is therefore pinned below 3.1: `MilvusClient._handler` for its `upsert` with a
request that is already encoded and for `alloc_timestamp`, the handler's hook `_on_rpc_error`, and
`pymilvus.client.call_context.CallContext`. `upsert_codec` and `schema` use its generated protobuf messages and
`pymilvus.milvus_client.index`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException
from pymilvus.client.call_context import CallContext
from pymilvus.exceptions import DataNotMatchException, ParamError
from pymilvus.grpc_gen.milvus_pb2 import UpsertRequest

from penstock.config import StoreSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.observability import metrics
from penstock.store.milvus.dialect import Backend, detect_backend

T = TypeVar("T")
logger = logging.getLogger(__name__)


def no_op() -> None:
    """Does nothing, before a write of a store that has no other writer."""


# pymilvus logs each error with a traceback and then raises it. Penstock logs it, or handles it by another attempt.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

CONNECT_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 5.0
_CHANNEL = {
    # A restarted server is found within a second; gRPC's own backoff grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # A channel of its own: it does not inherit the backoff of one that failed earlier in this process.
    "grpc.use_local_subchannel_pool": 1,
    # pymilvus pings every 10 s also when idle; a gRPC server disconnects a client that does so ("too many pings").
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_permit_without_calls": 0,
}

# Milvus's error codes (merr).
_NOT_FOUND = 100
_NOT_LOADED = 101
_NO_ALIAS = 1600
_DENIED = range(1400, 1500)
_UNPARSED = "cannot parse expression"  # 2.3 has no code for it
_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_BAD_CREDENTIALS = (_UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_REFUSED = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)
# gRPC's status for a message above its limit, and gateways' for too many requests: only the first is permanent.
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
_TOO_LARGE = "larger than max"
_TOO_MUCH = "maxOutputSize"  # the result of one query is too large; no code for it either


class Connection:
    """One connection, shared by threads.

    Raises from every method:
        UnavailableError: no answer. A refused connection is noticed immediately, a silent one after the request's
            timeout.
        PermanentError: the server refuses the request for its content.
        ConfigError: wrong credentials or address, or a collection that does not exist.
    """

    def __init__(
        self, settings: StoreSettings, before_write: Callable[[], None] = no_op, *, for_queries: bool = False
    ) -> None:
        self.before_write = before_write
        self.is_read_only = for_queries and settings.has_secret("readonly_token")
        self._settings = settings
        if settings.uri is None:
            raise ConfigError("store.uri is not set and no embedded store runs: set it, or start `penstock up`")
        self.uri = settings.uri
        self.timeout_s = settings.timeout_s
        self._token = ""
        self._database = settings.database
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        self._backend = detect_backend("")

    @property
    def backend(self) -> Backend:
        """The kind of server, detected when the connection was made."""
        self._connected()
        return self._backend

    def call(self, doing: str, request: Callable[[MilvusClient], T], *, collection: str | None = None) -> T:
        """Sends one request. If `collection` is not loaded, as in Lite after a restart, loads it and sends again.

        Args:
            doing: the purpose, in words for the message: "searching image.joint".
            request: calls one method of the client, with a timeout.
            collection: must be loaded for the request.
        """
        client = self._connected()
        try:
            return self._send(client, request, collection)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as exc:
            if not (_code_and_detail(exc)[0] == _UNAUTHENTICATED and self._reconnected(client)):
                raise self._translated(exc, doing) from exc
        try:
            return self._send(self._connected(), request, collection)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as exc:
            raise self._translated(exc, doing) from exc

    def _send(self, client: MilvusClient, request: Callable[[MilvusClient], T], collection: str | None) -> T:
        try:
            return request(client)
        except MilvusException as exc:
            if collection is None or exc.code != _NOT_LOADED or self.is_read_only:
                raise
            logger.info("loading collection %s", collection)
            client.load_collection(collection, timeout=self.timeout_s)
            return request(client)

    def call_or_none(
        self, doing: str, request: Callable[[MilvusClient], T], *, collection: str | None = None
    ) -> T | None:
        """Sends one request as `call` does; returns None if the collection or alias in it does not exist."""
        try:
            return self.call(doing, request, collection=collection)
        except PenstockError as exc:
            if isinstance(exc.__cause__, MilvusException) and exc.__cause__.code in (_NOT_FOUND, _NO_ALIAS):
                return None
            raise

    def upsert(self, client: MilvusClient, request: UpsertRequest, *, timeout_s: float) -> int:
        """Sends an encoded request in the way `client.upsert` sends its own; for use within `call`.

        Returns:
            the server's timestamp of the write.
        """
        context = CallContext(db_name=self._database)
        # The handler fetches the schema from the server unless it is given one.
        result = client._handler.upsert(
            request.collection_name,
            [],
            upsert_param=request,
            schema={"fields": ()},
            context=context,
            timeout=timeout_s,
            retry_on_rate_limit=False,
        )
        return int(result.timestamp)

    def timestamp(self) -> int:
        """Returns the server's timestamp: later than that of any write acknowledged so far; 0 if it gives none."""
        context = CallContext(db_name=self._database)
        return self.call(
            "requesting a timestamp",
            lambda client: int(client._handler.alloc_timestamp(timeout=self.timeout_s, context=context)),
        )

    def ping(self) -> None:
        """Returns if the server answers within five seconds."""
        self.call("pinging it", lambda client: client.get_server_version(timeout=PING_TIMEOUT_S))

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _reconnected(self, refused: MilvusClient) -> bool:
        """Returns whether there is a connection with another token than that of a refused one: a file was changed."""
        with self._lock:
            if self._client is refused:
                if self._read_token() == self._token:
                    return False
                logger.info("the token of the store at %s was changed: connecting again", self.uri)
                self._client = None  # not closed: requests of other threads are under way on it
            return True

    def _read_token(self) -> str:
        return self._settings.secret("readonly_token" if self.is_read_only else "token")

    def _connected(self) -> MilvusClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> MilvusClient:
        self._token = self._read_token()
        try:
            client = MilvusClient(
                self.uri,
                token=self._token,
                db_name=self._database,
                timeout=min(CONNECT_TIMEOUT_S, self.timeout_s),
                dedicated=True,
                grpc_options=_CHANNEL,
                **_tls_arguments(self._settings),
            )
            self._backend = detect_backend(str(client.get_server_version(timeout=CONNECT_TIMEOUT_S)))
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as exc:
            raise self._translated(exc, "connecting") from exc
        except OSError as exc:
            raise ConfigError(
                f"a file of store.ca_file, store.cert_file and store.key_file cannot be used: {exc.strerror or exc}"
            ) from exc
        # pymilvus repeats a failed call until its timeout has passed. It calls this hook before each repetition;
        # raising ends them. gRPC's channel reconnects by itself for the next call.
        client._handler._on_rpc_error = _no_retry
        logger.info("connected to the store at %s: %s", self.uri, self._backend.capabilities)
        return client

    def _translated(self, exc: Exception, doing: str) -> PenstockError:
        code, detail = _code_and_detail(exc)
        message = f"the store at {self.uri} failed while {doing}: {detail}"
        if code in _BAD_CREDENTIALS or (isinstance(code, int) and code in _DENIED):
            if code in _BAD_CREDENTIALS:
                metrics.AUTH_FAILURES.labels("store").inc()
            token = "store.readonly_token" if self.is_read_only else "store.token"
            return ConfigError(f"{message}. Check {token} and its permissions")
        if code == _NOT_LOADED and self.is_read_only:
            return UnavailableError(f"{message}. `penstock ingest` loads collections; this user may not")
        if code in (_NOT_FOUND, _NO_ALIAS):
            return ConfigError(
                f"{message}. `penstock ingest` creates the collections; check store.uri and store.database"
            )
        refused = code in _REFUSED or code in self._backend.permanent_codes or _UNPARSED in detail
        refused = refused or (code == _EXHAUSTED and _TOO_LARGE in detail) or _TOO_MUCH in detail
        if refused or isinstance(exc, DataNotMatchException | ParamError):
            return PermanentError(message)
        return UnavailableError(f"{message}. It will be retried once the store answers")


def _tls_arguments(settings: StoreSettings) -> dict[str, Any]:
    """Returns pymilvus's arguments of TLS, in which the CA has another name if there is a client certificate."""
    files: dict[str, Path | None] = {"server_pem_path": settings.ca_file}
    if settings.cert_file is not None:
        files = {
            "ca_pem_path": settings.ca_file,
            "client_pem_path": settings.cert_file,
            "client_key_path": settings.key_file,
        }
    arguments: dict[str, Any] = {name: os.fspath(file) for name, file in files.items() if file is not None}
    if settings.server_name is not None:
        arguments["server_name"] = settings.server_name
    return arguments | {"secure": True} if (settings.uri or "").startswith("https://") else arguments


def _no_retry(error: Exception) -> NoReturn:
    raise error


def _code_and_detail(exc: Any) -> tuple[object, str]:
    """Returns Milvus's error code or gRPC's status, and the error's text in one line."""
    root = next((cause for cause in _causes(exc) if isinstance(cause, grpc.RpcError) and hasattr(cause, "code")), None)
    if root is not None:
        status = root.code()
        return status, f"{status.name.lower().replace('_', ' ')}: {_one_line(root.details() or '')}"
    return getattr(exc, "code", None), _one_line(getattr(exc, "message", None) or str(exc))


def _causes(exc: BaseException) -> list[Any]:
    """Returns the exception and its causes; pymilvus makes some exceptions the cause of themselves."""
    causes: list[BaseException] = []
    following: BaseException | None = exc
    while following is not None and following not in causes:
        causes.append(following)
        following = following.__cause__
    return causes


def _one_line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
