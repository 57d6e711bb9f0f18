"""The contract of the click memory, for the double and for Milvus."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from penstock.config import StoreSettings
from penstock.records import Action, Choice, Position
from penstock.store.clicks import ClickTable, MemoryClicks, is_table
from penstock.store.milvus.clicks import MilvusClicks, forget_tenant
from tests.choices import DIM, choice, question_vector
from tests.store.conftest import SERVERS


@pytest.fixture(scope="module")
def encoder() -> str:
    return f"encoder {uuid.uuid4().hex}"


@pytest.fixture(scope="module", params=["memory", *SERVERS])
def clicks(request: pytest.FixtureRequest, encoder: str) -> Iterator[ClickTable]:
    """A table that tests share: each uses a tenant of its own."""
    if request.param == "memory":
        table: ClickTable = MemoryClicks()
    else:
        server = request.getfixturevalue(request.param)
        settings = StoreSettings(uri=server.uri, consistency="Strong", timeout_s=20.0)
        table = MilvusClicks(settings, encoder)
    assert list(table.recall(question_vector("heron"), "nobody", limit=5, timeout_s=20)) == []
    assert table.of_ids(["0" * 32]) == {}
    table.ensure(DIM)
    table.ensure(DIM)
    yield table
    table.close()


def recalled(clicks: ClickTable, question: str, tenant: str, limit: int = 10) -> list[tuple[str, float]]:
    matches = clicks.recall(question_vector(question), tenant, limit=limit, timeout_s=20)
    return [(match.choice.asset.key, round(match.cosine, 3)) for match in matches]


def test_the_closest_questions_of_the_tenant_come_first(clicks: ClickTable, tenant: str) -> None:
    clicks.put([choice("grey heron", "a", tenant=tenant), choice("red fox", "b", tenant=tenant)])
    clicks.put([choice("grey heron", "c", tenant=f"{tenant}-other")])
    matches = recalled(clicks, "grey heron", tenant)
    assert [key for key, _ in matches] == ["a", "b"]
    assert matches[0][1] == pytest.approx(1, abs=1e-3)
    assert recalled(clicks, "grey heron", tenant, limit=1) == matches[:1]


def test_a_choice_comes_back_as_it_was_written(clicks: ClickTable, tenant: str) -> None:
    written = choice(
        "grey heron",
        "a",
        tenant=tenant,
        action=Action.LIKE,
        rank=4,
        shown=("a" * 32, "b" * 32),
        text="grey heron",
        origin=Position("search.feedback", 3, 9),
    )
    clicks.put([written])
    assert clicks.of_ids([written.id, "0" * 32]) == {written.id: written}
    own = [kept for page in clicks.scan(with_vectors=True) for kept in page if kept.asset.tenant == tenant]
    assert own == [written]
    assert np.allclose(own[0].vector, written.vector, atol=1e-6)


def test_a_vote_replaces_the_one_before(clicks: ClickTable, tenant: str) -> None:
    first = choice("grey heron", "a", tenant=tenant)
    clicks.put([first])
    clicks.put([replace(first, action=Action.DISLIKE, time_ms=first.time_ms + 1)])
    assert clicks.of_ids([first.id])[first.id].action is Action.DISLIKE
    assert len(recalled(clicks, "grey heron", tenant)) == 1


def test_choices_go_by_id_by_asset_and_by_tenant(clicks: ClickTable, tenant: str) -> None:
    by_id, by_asset, by_key, rest = (choice("grey heron", key, tenant=tenant) for key in "abcd")
    other = choice("grey heron", "a", tenant=f"{tenant}-other")
    everything: list[Choice] = [by_id, by_asset, by_key, rest, other]
    clicks.put(everything)
    clicks.drop([by_id.id])
    clicks.drop_assets({by_asset.asset.id, "0" * 32})
    assert clicks.drop_tenant(tenant, "c") == 1
    assert set(clicks.of_ids([kept.id for kept in everything])) == {rest.id, other.id}
    assert clicks.drop_tenant(tenant) == 1
    assert clicks.drop_tenant(tenant) == 0
    assert set(clicks.of_ids([kept.id for kept in everything])) == {other.id}


@pytest.mark.slow_on_standalone
def test_a_tenant_is_forgotten_in_the_tables_of_every_encoder(clicks: ClickTable, tenant: str) -> None:
    if not isinstance(clicks, MilvusClicks):
        pytest.skip("the double is one table")
    settings = clicks.settings
    former = MilvusClicks(settings, f"former encoder {tenant}")
    former.ensure(DIM)
    for table in (clicks, former):
        table.put([choice("grey heron", key, tenant=tenant) for key in "ab"])
    assert forget_tenant(settings, tenant, "a") == 2
    assert forget_tenant(settings, tenant) == 2
    assert forget_tenant(settings, tenant) == 0
    former.close()


def test_all_versions_of_the_index_have_one_table_for_an_encoder_and_another_encoder_its_own() -> None:
    first, second = (StoreSettings(uri="http://localhost:1", version=version) for version in (1, 2))
    name = MilvusClicks(first, "an encoder").name
    assert MilvusClicks(second, "an encoder").name == name
    assert MilvusClicks(first, "another encoder").name != name
    assert is_table(name)
    assert not is_table("image__clip_a__v1")


def test_a_switch_of_the_index_version_keeps_the_choices(clicks: ClickTable, tenant: str, encoder: str) -> None:
    if not isinstance(clicks, MilvusClicks):
        pytest.skip("the double is one table")
    written = choice("grey heron", "a", tenant=tenant)
    clicks.put([written])
    switched = MilvusClicks(clicks.settings.model_copy(update={"version": 2}), encoder)
    assert switched.of_ids([written.id]) == {written.id: written}
    assert [key for key, _ in recalled(switched, "grey heron", tenant)] == ["a"]
    switched.close()


def test_a_scan_returns_every_choice_once_by_id(clicks: ClickTable, tenant: str) -> None:
    written = [choice(f"question {number}", "a", tenant=tenant) for number in range(7)]
    clicks.put(written)
    seen = [kept.id for page in clicks.scan(batch=3) for kept in page if kept.asset.tenant == tenant]
    assert seen == sorted(kept.id for kept in written)
