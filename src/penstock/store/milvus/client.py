"""The connection to Milvus: made when first needed, its errors translated, its retries switched off."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException
from pymilvus.client.call_context import CallContext
from pymilvus.exceptions import DataNotMatchException, ParamError
from pymilvus.grpc_gen.milvus_pb2 import UpsertRequest

from penstock.config import StoreSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.store.milvus.dialect import Backend, detect_backend

T = TypeVar("T")
log = logging.getLogger(__name__)
# pymilvus logs each error with a traceback and then raises it. It is ours to log, or to answer by trying again.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

CONNECT_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 5.0
_CHANNEL = {
    # A restarted server is found within a second; gRPC's own backoff grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # A channel of its own: the backoff of one that failed earlier in this process is not inherited.
    "grpc.use_local_subchannel_pool": 1,
    # pymilvus pings every 10 s also when idle; a gRPC server hangs up on a client that does so ("too many pings").
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_permit_without_calls": 0,
}

# Milvus's numbers of errors (merr).
_NOT_FOUND = 100
_NOT_LOADED = 101
_NO_ALIAS = 1600
_DENIED = range(1400, 1500)
_UNPARSED = "cannot parse expression"  # 2.3 has no number for it
_BAD_CREDENTIALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_REFUSED = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)
# gRPC's status for a message above its limit, and gateways' for too many requests: the first is for good.
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
_TOO_LARGE = "larger than max"
_TOO_MUCH = "maxOutputSize"  # asked for by one query; no number for it either


class Connection:
    """One connection, shared by threads.

    Raises from every method:
        UnavailableError: no answer. A refused connection is noticed at once, a silent one after the request's timeout.
        PermanentError: the server refuses the request for what is in it.
        ConfigError: wrong credentials or address, or a collection that nobody made.
    """

    def __init__(self, settings: StoreSettings) -> None:
        if settings.uri is None:
            raise ConfigError("store.uri is not set and no embedded store runs: set it, or start `penstock up`")
        self.uri = settings.uri
        self.timeout_s = settings.timeout_s
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._database = settings.database
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        self._backend = detect_backend("")

    @property
    def backend(self) -> Backend:
        """What the server is, asked when the connection was made."""
        self._connected()
        return self._backend

    def call(self, doing: str, request: Callable[[MilvusClient], T], *, collection: str | None = None) -> T:
        """Sends one request. If `collection` turns out not to be loaded, as in Lite after a restart, it is loaded and
        the request sent again.

        Args:
            doing: what for, in words for the message: "searching image.joint".
            request: calls one method of the client, with a timeout.
            collection: what has to be loaded for it.
        """
        client = self._connected()
        try:
            try:
                return request(client)
            except MilvusException as exc:
                if collection is None or exc.code != _NOT_LOADED:
                    raise
                log.info("loading collection %s", collection)
                client.load_collection(collection, timeout=self.timeout_s)
                return request(client)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as exc:
            raise self._translated(exc, doing) from exc

    def call_or_none(self, doing: str, request: Callable[[MilvusClient], T]) -> T | None:
        """The same, with None where the collection or alias that was asked about does not exist."""
        try:
            return self.call(doing, request)
        except PenstockError as exc:
            if isinstance(exc.__cause__, MilvusException) and exc.__cause__.code in (_NOT_FOUND, _NO_ALIAS):
                return None
            raise

    def upsert(self, client: MilvusClient, request: UpsertRequest, **options: Any) -> int:
        """Sends a request that is packed already, as `client.upsert` would send its own; to be used within `call`.

        Returns:
            the server's timestamp of the write.
        """
        context = CallContext(db_name=self._database)
        # The handler asks the server for a schema to pack by unless it is given one.
        done = client._handler.upsert(
            request.collection_name, [], upsert_param=request, schema={"fields": ()}, context=context, **options
        )
        return int(done.timestamp)

    def timestamp(self) -> int:
        """The server's timestamp: later than that of anything acknowledged so far, to whomever. 0: it tells none."""
        context = CallContext(db_name=self._database)
        return self.call(
            "asking for its time",
            lambda client: int(client._handler.alloc_timestamp(timeout=self.timeout_s, context=context)),
        )

    def ping(self) -> None:
        """Returns if the server answers within five seconds."""
        self.call("asking for a sign of life", lambda client: client.get_server_version(timeout=PING_TIMEOUT_S))

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> MilvusClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> MilvusClient:
        try:
            client = MilvusClient(
                self.uri,
                token=self._token,
                db_name=self._database,
                timeout=min(CONNECT_TIMEOUT_S, self.timeout_s),
                dedicated=True,
                grpc_options=_CHANNEL,
            )
            self._backend = detect_backend(str(client.get_server_version(timeout=CONNECT_TIMEOUT_S)))
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as exc:
            raise self._translated(exc, "connecting") from exc
        # pymilvus repeats a failed call until its timeout has passed. This hook of its own is asked before each
        # repetition; raising ends them. gRPC's channel reconnects by itself for the next call.
        client._handler._on_rpc_error = _no_retry
        log.info("the store at %s: %s", self.uri, self._backend.capabilities)
        return client

    def _translated(self, exc: Exception, doing: str) -> PenstockError:
        code, detail = _code_and_detail(exc)
        said = f"the store at {self.uri} failed while {doing}: {detail}"
        if code in _BAD_CREDENTIALS or (isinstance(code, int) and code in _DENIED):
            return ConfigError(f"{said}. Check store.token and what it is allowed to do")
        if code in (_NOT_FOUND, _NO_ALIAS):
            return ConfigError(f"{said}. `penstock ingest` makes the collections; check store.uri and store.database")
        refused = code in _REFUSED or code in self._backend.permanent_codes or _UNPARSED in detail
        refused = refused or (code == _EXHAUSTED and _TOO_LARGE in detail) or _TOO_MUCH in detail
        if refused or isinstance(exc, DataNotMatchException | ParamError):
            return PermanentError(said)
        return UnavailableError(f"{said}. It is tried again when the store answers")


def _no_retry(error: Exception) -> NoReturn:
    raise error


def _code_and_detail(exc: Any) -> tuple[object, str]:
    """The number of Milvus or the status of gRPC, and one line of what it says."""
    root = next((each for each in _causes(exc) if isinstance(each, grpc.RpcError) and hasattr(each, "code")), None)
    if root is not None:
        status = root.code()
        return status, f"{status.name.lower().replace('_', ' ')}: {_one_line(root.details() or '')}"
    return getattr(exc, "code", None), _one_line(getattr(exc, "message", None) or str(exc))


def _causes(exc: BaseException) -> list[Any]:
    """The exception and what caused it; pymilvus makes some the cause of themselves."""
    found: list[BaseException] = []
    following: BaseException | None = exc
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__
    return found


def _one_line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
