"""Checks the transport of the store: TLS, and tokens that are changed while it is used.

The server is a double that answers two methods of Milvus's protocol behind real TLS and checks the token of each call.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from penstock.config import StoreSettings, load_settings
from penstock.errors import ConfigError, PenstockError, UnavailableError
from penstock.observability import metrics
from penstock.store.milvus.client import Connection
from tests.counted import counted
from tests.secured_kafka import HOST, Certificates, key_without_password


class Tokens(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets calls with the right token in, as Milvus does."""

    def __init__(self) -> None:
        self.right = "root:one"
        self.calls = 0

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.calls += 1
        shown = dict(details.invocation_metadata).get("authorization", "")
        if base64.b64decode(shown).decode() == self.right:
            return continuation(details)
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")
        )


class Milvus(milvus_pb2_grpc.MilvusServiceServicer):
    def Connect(self, request: Any, context: Any) -> Any:
        return milvus_pb2.ConnectResponse(status=common_pb2.Status(), identifier=1)

    def GetVersion(self, request: Any, context: Any) -> Any:
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version="2.3.5")


class Server:
    """A server on two ports: one by TLS, and one that demands a client certificate as well."""

    def __init__(self, files: Certificates) -> None:
        self.tokens = Tokens()
        self._server = grpc.server(ThreadPoolExecutor(4), interceptors=[self.tokens])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Milvus(), self._server)
        key, chain = files.broker.read_bytes(), files.broker.read_bytes()
        ca = files.ca.read_bytes()
        one_way = grpc.ssl_server_credentials([(key, chain)])
        mutual = grpc.ssl_server_credentials([(key, chain)], root_certificates=ca, require_client_auth=True)
        self.uri = f"https://{HOST}:{self._server.add_secure_port(f'{HOST}:0', one_way)}"
        self.mutual_uri = f"https://{HOST}:{self._server.add_secure_port(f'{HOST}:0', mutual)}"
        self.clear_uri = f"http://{HOST}:{self._server.add_insecure_port(f'{HOST}:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(files: Certificates) -> Iterator[Server]:
    server = Server(files)
    yield server
    server.close()


def ping(settings: StoreSettings) -> None:
    connection = Connection(settings)
    try:
        connection.ping()
    finally:
        connection.close()


def test_a_private_ca_and_a_client_certificate_are_used(server: Server, files: Certificates, tmp_path: Path) -> None:
    common = {"token": "root:one", "ca_file": files.ca, "timeout_s": 3}
    ping(StoreSettings.model_validate(common | {"uri": server.uri}))
    ping(StoreSettings.model_validate(common | {"uri": server.uri, "server_name": HOST}))
    key = key_without_password(files, tmp_path / "key.pem")
    certificate = {"uri": server.mutual_uri, "cert_file": files.client_cert, "key_file": key}
    ping(StoreSettings.model_validate(common | certificate))
    for refused in ({"uri": server.mutual_uri}, {"uri": server.uri, "ca_file": files.other_ca}):
        with pytest.raises(UnavailableError):
            ping(StoreSettings.model_validate(common | {"timeout_s": 1} | refused))
    with pytest.raises(ConfigError, match=r"store\.ca_file.* cannot be used: No such file"):
        ping(StoreSettings.model_validate(common | {"uri": server.uri, "ca_file": tmp_path / "absent"}))


def test_a_token_that_is_changed_is_read_from_its_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("root:one")
    connection = Connection(StoreSettings(uri=server.clear_uri, token_file=file, timeout_s=3))
    connection.ping()
    server.tokens.right = "root:two"
    with pytest.raises(ConfigError, match=r"Check store\.token"):
        connection.ping()
    file.write_text("root:two\n")
    connection.ping()
    with ThreadPoolExecutor(8) as pool:
        server.tokens.right = "root:three"
        file.write_text("root:three")
        for answer in [pool.submit(connection.ping) for _ in range(32)]:
            answer.result(10)
    connection.close()


def test_a_wrong_token_is_sent_once(server: Server) -> None:
    before = counted(metrics.AUTH_FAILURES, service="store")
    connection = Connection(StoreSettings.model_validate({"uri": server.clear_uri, "token": "root:wrong"}))
    with pytest.raises(ConfigError):
        connection.ping()
    assert server.tokens.calls <= 2
    connection.close()
    assert counted(metrics.AUTH_FAILURES, service="store") == before + 1


def test_queries_have_a_token_of_their_own_where_there_is_one(server: Server) -> None:
    both = {"uri": server.clear_uri, "token": "root:wrong", "readonly_token": "root:one", "timeout_s": 3}
    reader = Connection(StoreSettings.model_validate(both), for_queries=True)
    reader.ping()
    assert reader.is_read_only
    reader.close()
    writer = Connection(StoreSettings.model_validate(both | {"token": "root:one", "readonly_token": "x:y"}))
    writer.ping()
    assert not writer.is_read_only
    writer.close()
    only = Connection(StoreSettings.model_validate({"uri": server.clear_uri, "token": "root:one"}), for_queries=True)
    assert not only.is_read_only


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"uri": "http://milvus:19530", "token": "t"}, "sent to http://milvus:19530 in the clear"),
        ({"uri": "http://milvus:19530", "readonly_token_file": "t"}, "in the clear"),
        ({"uri": "http://127.0.0.1:19530", "ca_file": "ca.pem"}, "ca_file would not be used"),
        ({"server_name": "milvus"}, "server_name would not be used"),
        ({"uri": "https://milvus:19530", "cert_file": "c", "key_file": "k"}, "belong together"),
    ],
)
def test_a_transport_that_cannot_be_meant_is_refused(store: dict[str, Any], message: str, no_settings: Path) -> None:
    with pytest.raises(PenstockError, match=message):
        load_settings(store=store)


def test_a_token_in_the_clear_can_be_allowed_by_name(no_settings: Path) -> None:
    store = load_settings(store={"uri": "http://milvus:19530", "token": "t", "allow_clear_token": True}).store
    assert store.secret("token") == "t"
    assert load_settings(store={"uri": "http://[::1]:19530", "token": "t"}).store.secret("token") == "t"
