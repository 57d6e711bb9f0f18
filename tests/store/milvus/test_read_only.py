"""Checks that queries need no more rights of a real Milvus than docs/secrets.md lists."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymilvus import MilvusClient

from penstock.config import StoreSettings
from penstock.errors import ConfigError, PenstockError
from penstock.records import Access, Channel, Collection, Field
from penstock.store.base import EntryQuery
from penstock.store.milvus.store import MilvusStore
from tests.store.builders import asset, asset_row, entry, spec, vector
from tests.store.servers import Standalone

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(400)]

_ROOT = "root:Milvus"  # of every new Milvus with users
_RIGHTS = (("Global", "DescribeCollection"), ("Collection", "Search"), ("Collection", "Query"))


class WithUsers(Standalone):
    """A Milvus that authenticates and authorizes."""

    def _configure(self) -> None:
        super()._configure()
        for file in (self._folder / "configs").glob("milvus.yaml*"):
            text = file.read_text()
            file.write_text(text.replace("authorizationEnabled: false", "authorizationEnabled: true"))


@pytest.fixture
def server() -> Iterator[WithUsers]:
    with tempfile.TemporaryDirectory(prefix="penstock-milvus-", ignore_cleanup_errors=True) as folder:
        running = WithUsers(Path(folder))
        try:
            running.start()
            yield running
        finally:
            running.kill()


def settings(server: WithUsers, **more: object) -> StoreSettings:
    return StoreSettings.model_validate({"uri": server.uri, "consistency": "Strong", "timeout_s": 30} | more)


def test_a_user_who_may_only_read_serves_queries_and_creates_nothing(server: WithUsers) -> None:
    with pytest.raises(ConfigError, match=r"Check store\.token"):
        MilvusStore(settings(server)).ping()
    writer = MilvusStore(settings(server, token=SecretStr(_ROOT)))
    reader = MilvusStore(
        settings(server, token=SecretStr("no:one"), readonly_token=SecretStr("reader:reader-1")), for_queries=True
    )
    admin = MilvusClient(server.uri, token=_ROOT, dedicated=True)
    admin.create_user("reader", "reader-1")
    admin.create_role("reading")
    for kind, right in _RIGHTS:
        admin.grant_privilege("reading", kind, right, "*")
    admin.grant_role("reader", "reading")

    before = set(admin.list_collections())
    with pytest.raises(ConfigError, match=r"`penstock ingest` creates it.* Start the ingest plane first"):
        reader.ensure(spec())
    assert set(admin.list_collections()) == before

    writer.ensure(spec())
    written = entry(asset())
    writer.upsert(Collection.IMAGE, [written])
    writer.put_asset_rows([asset_row(asset())])
    reader.ensure(spec())
    query = EntryQuery(
        Channel(Collection.IMAGE, Field.JOINT), vector(1), Access.to_all_of("default"), None, limit=5, timeout_s=20
    )
    assert [hit.entry.id for hit in reader.search(query)] == [written.id]
    assert set(reader.entries([written.id], access=Access.to_all_of("default"), timeout_s=20)) == {written.id}
    with pytest.raises(PenstockError, match="permission"):
        reader.upsert(Collection.IMAGE, [written])
    with pytest.raises(ConfigError, match="has no collection"):
        reader.ensure(spec(version=2))
    for store in (writer, reader):
        store.close()
    admin.close()
