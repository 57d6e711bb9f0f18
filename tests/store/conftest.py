"""Fixtures of the stores: the double, Milvus Lite's server, and a real Milvus 2.3.5. All tests share the servers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
from pymilvus import MilvusClient

from penstock.config import StoreSettings
from penstock.store.base import Store
from penstock.store.memory import MemoryStore
from penstock.store.milvus.store import MilvusStore
from tests.store.builders import spec
from tests.store.servers import LiteServer, Standalone, milvus_lite_server, milvus_standalone

SERVERS = [
    pytest.param("lite", marks=pytest.mark.services),
    pytest.param("standalone", marks=pytest.mark.services),
]
# A server of another version, which keeps its data: the tests use databases and tenants of their own.
if "PENSTOCK_TEST_MILVUS_URI" in os.environ:
    SERVERS.append(pytest.param("given", marks=pytest.mark.services))


@pytest.fixture(scope="package")
def lite() -> Iterator[LiteServer]:
    with milvus_lite_server() as server:
        yield server


@pytest.fixture(scope="package")
def standalone() -> Iterator[Standalone]:
    with milvus_standalone() as server:
        yield server


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that runs already."""

    uri: str


@pytest.fixture(scope="package")
def given() -> GivenServer:
    return GivenServer(os.environ["PENSTOCK_TEST_MILVUS_URI"])


@pytest.fixture(scope="package", params=SERVERS)
def server(request: pytest.FixtureRequest) -> LiteServer | Standalone | GivenServer:
    """A running server."""
    running: LiteServer | Standalone | GivenServer = request.getfixturevalue(request.param)
    return running


@contextmanager
def stores_on(uri: str) -> Iterator[Callable[..., MilvusStore]]:
    """Makes stores on an empty database of a server, which is removed afterwards; all see the same."""
    database = f"t{uuid.uuid4().hex[:12]}"
    admin = MilvusClient(uri, dedicated=True)
    admin.create_database(database)
    stores: list[MilvusStore] = []

    def make(consistency: Literal["Strong", "Bounded"] = "Strong", *, version: int | None = None) -> MilvusStore:
        settings = StoreSettings(uri=uri, database=database, consistency=consistency, timeout_s=20.0)
        stores.append(MilvusStore(settings, version=version))
        return stores[-1]

    yield make
    for opened in stores:
        opened.close()
    inside = MilvusClient(uri, dedicated=True, db_name=database)
    for alias in ("text", "image", "asset"):
        if inside.has_collection(alias):
            inside.drop_alias(alias)
    for name in inside.list_collections():
        inside.drop_collection(name)
    inside.close()
    admin.drop_database(database)
    admin.close()


@pytest.fixture
def connect(server: LiteServer | Standalone | GivenServer) -> Iterator[Callable[..., MilvusStore]]:
    """Makes stores on an empty database of the server; all see the same."""
    with stores_on(server.uri) as make:
        yield make


@pytest.fixture(scope="package", params=["memory", *SERVERS])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An ensured store that tests share: each test uses a tenant of its own."""
    if request.param == "memory":
        backend: Store = MemoryStore()
    else:
        server = request.getfixturevalue(request.param)
        backend = MilvusStore(StoreSettings(uri=server.uri, consistency="Strong", timeout_s=20.0))
    backend.ensure(spec())
    yield backend
    backend.close()


@pytest.fixture
def tenant() -> str:
    return uuid.uuid4().hex
