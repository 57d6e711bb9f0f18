"""Sends tokens of a real provider on loopback to the routes of a query plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from penstock.config import Settings
from penstock.serve.app import build_query_plane
from penstock.store.memory import MemoryStore
from tests.auth.token_server import AUDIENCE, CLIENT_ID, SigningKey, TokenServer
from tests.serve.conftest import caller
from tests.serve.sample_index import PROFILE, fill


@pytest.fixture(scope="module")
def provider() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


@pytest.fixture(scope="module")
def search(provider: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., httpx.Response]]:
    """Returns `search(token, tenant)`."""
    settings = Settings(
        profile=PROFILE.name,
        data_dir=Path(tmp_path_factory.mktemp("plane")),
        auth={
            "mode": "oidc",
            "oidc": {"issuer": provider.issuer, "audience": AUDIENCE, "client_id": CLIENT_ID},
        },
        ingest={"min_free_disk_bytes": 0},
        store={"consistency": "Strong"},
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    send = caller(plane)

    def searched(token: str | None, tenant: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = {"text": "a dog in the fog", **({} if tenant is None else {"tenant": tenant})}
        return send("POST", "/v1/search", headers=headers, json=body)

    yield searched
    plane.close()


def test_a_token_reads_its_only_tenant_and_no_other(
    search: Callable[..., httpx.Response], provider: TokenServer
) -> None:
    result = search(provider.token())
    assert result.status_code == 200
    assert {hit["tenant"] for hit in result.json()["hits"]} == {"acme"}
    existing, absent = search(provider.token(), "default"), search(provider.token(), "no-such-tenant")
    assert (existing.status_code, absent.status_code) == (403, 403)
    assert existing.content == absent.content


def test_tokens_without_permission_or_tenant_are_refused(
    search: Callable[..., httpx.Response], provider: TokenServer
) -> None:
    assert search(provider.token(permissions=["status"])).status_code == 403
    assert search(provider.token(tenants=[])).status_code == 403
    assert search(provider.token(tenants=["acme", "default"])).status_code == 400
    assert search(provider.token(tenants=["acme", "default"]), "acme").status_code == 200


def test_every_invalid_token_gets_the_same_answer(search: Callable[..., httpx.Response], provider: TokenServer) -> None:
    refused = [
        search(token)
        for token in (
            provider.token(aud="another"),
            provider.token(iss="https://another.example"),
            provider.token(exp=1),
            provider.token(SigningKey("first")),
            provider.token()[:-4],
            "pk_page_" + "k" * 43,
        )
    ]
    assert {response.status_code for response in refused} == {401}
    assert {response.headers["www-authenticate"].split()[0] for response in refused} == {"Bearer"}
    assert len({response.content for response in refused}) == 1
    assert search(None).status_code == 401
