"""Fixtures of the stores: the double, Milvus Lite's server, and a real Milvus 2.3.5. All tests share the servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def lite() -> Iterator[LiteServer]:
    with milvus_lite_server() as server:
        yield server


@pytest.fixture(scope="session")
def standalone() -> Iterator[Standalone]:
    with milvus_standalone() as server:
        yield server


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> LiteServer | Standalone:
    """A running server."""
    running: LiteServer | Standalone = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def connect(server: LiteServer | Standalone) -> Iterator[Callable[..., MilvusStore]]:
    """Makes stores on an empty database of the server; all see the same."""
    database = f"t{uuid.uuid4().hex[:12]}"
    admin = MilvusClient(server.uri, dedicated=True)
    admin.create_database(database)
    stores: list[MilvusStore] = []

    def make(consistency: Literal["Strong", "Bounded"] = "Strong") -> MilvusStore:
        settings = StoreSettings(uri=server.uri, database=database, consistency=consistency, timeout_s=20.0)
        stores.append(MilvusStore(settings))
        return stores[-1]

    yield make
    for opened in stores:
        opened.close()
    inside = MilvusClient(server.uri, dedicated=True, db_name=database)
    for alias in ("text", "image", "asset"):
        if inside.has_collection(alias):
            inside.drop_alias(alias)
    for name in inside.list_collections():
        inside.drop_collection(name)
    inside.close()
    admin.drop_database(database)
    admin.close()


@pytest.fixture(scope="session", params=["memory", *SERVERS])
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
