"""Tests authentication and permissions of routes, and the problem documents of refused requests."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from penstock.auth import Authenticator, KeyFile, Permission, Principal
from penstock.auth.keys import new_key, write_keys
from penstock.auth.oidc import OidcTokens
from penstock.errors import UnavailableError
from penstock.serve import problems
from penstock.serve.authentication import Authentication, permitted, principal_of, protect
from tests.auth.silent_provider import silent_provider
from tests.auth.test_keys import api_key
from tests.auth.token_server import SigningKey

KEY = new_key("ci")
OPERATOR = new_key("ops")


class Body(BaseModel):
    """A body that a route demands."""

    text: str


def application(authenticator: Authenticator) -> FastAPI:
    """Returns an application with a route of every kind."""
    app = FastAPI(docs_url=None, redoc_url=None)
    searches = APIRouter(route_class=permitted(Permission.SEARCH))
    status = APIRouter(route_class=permitted(Permission.STATUS))
    public = APIRouter(route_class=permitted(None))

    @searches.post("/search")
    async def search(body: Body, request: Request) -> str:
        return principal_of(request.scope).subject + body.text

    @status.get("/status")
    async def report() -> str:
        return "fine"

    @public.get("/healthz")
    async def healthz() -> str:
        return "alive"

    async def other(_: Request) -> PlainTextResponse:
        return PlainTextResponse("other")

    for router in (searches, status, public):
        app.include_router(router)
    app.router.routes.append(Route("/other", other))
    protect(app.routes, Permission.STATUS)
    app.add_middleware(Authentication, authenticator=authenticator)
    problems.install(app)
    return app


@pytest.fixture
def authenticator(tmp_path: Path) -> Authenticator:
    path = tmp_path / "keys.json"
    operator = api_key(OPERATOR, tenants=("*",), permissions=(Permission.ADMIN,))
    write_keys(path, (api_key(KEY), operator))
    return Authenticator(KeyFile(path))


def send(
    authenticator: Authenticator, method: str, path: str, key: str | None = None, **options: Any
) -> httpx.Response:
    """Returns the answer of the application to a request with a key."""

    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(application(authenticator))
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock", headers=headers) as client:
            return await client.request(method, path, **options)

    return asyncio.run(sent())


def test_a_route_gets_the_principal_of_the_key(authenticator: Authenticator) -> None:
    answer = send(authenticator, "POST", "/search", KEY, json={"text": "!"})
    assert (answer.status_code, answer.json()) == (200, "key:ci!")


def test_a_request_without_credentials_gets_401_and_a_challenge(authenticator: Authenticator) -> None:
    answer = send(authenticator, "POST", "/search", json={"text": "!"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="penstock"'
    assert answer.json()["type"] == "urn:penstock:problem:unauthenticated"


def test_invalid_credentials_get_401_and_appear_nowhere(authenticator: Authenticator) -> None:
    wrong = new_key("ci")
    answer = send(authenticator, "POST", "/search", wrong, json={"text": "!"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="penstock", error="invalid_token"'
    assert wrong.split("_")[2] not in answer.text


def test_a_principal_without_the_permission_gets_403(authenticator: Authenticator) -> None:
    answer = send(authenticator, "GET", "/status", KEY)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:penstock:problem:forbidden"
    assert send(authenticator, "GET", "/status", OPERATOR).status_code == 200


@pytest.mark.parametrize("content", [b"{", b'{"text": 1}', b"\xff" * 100])
def test_the_body_of_a_stranger_is_not_read(authenticator: Authenticator, content: bytes) -> None:
    assert send(authenticator, "POST", "/search", content=content).status_code == 401
    assert send(authenticator, "POST", "/search", KEY, content=content).status_code in (400, 422)


def test_an_open_route_serves_everybody(authenticator: Authenticator) -> None:
    assert send(authenticator, "GET", "/healthz").status_code == 200
    assert send(authenticator, "GET", "/healthz", new_key("ci")).status_code == 200


@pytest.mark.parametrize("path", ["/other", "/openapi.json"])
def test_a_route_that_another_package_adds_is_protected(authenticator: Authenticator, path: str) -> None:
    assert send(authenticator, "GET", path).status_code == 401
    assert send(authenticator, "GET", path, KEY).status_code == 403
    assert send(authenticator, "GET", path, OPERATOR).status_code == 200


class AwayTokens:
    """Cannot check tokens now."""

    def principal(self, token: str) -> Principal | None:
        raise UnavailableError("the issuer does not answer")

    def waits(self, token: str) -> bool:
        return True


def test_credentials_that_cannot_be_checked_are_unavailable_and_not_wrong() -> None:
    answer = send(Authenticator(tokens=AwayTokens()), "GET", "/status", "ey.J.0")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_tokens_that_wait_for_a_slow_provider_take_no_thread_from_other_work() -> None:
    key = SigningKey("unknown")

    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        async with silent_provider() as provider:
            tokens = OidcTokens(provider.settings())
            transport = httpx.ASGITransport(application(Authenticator(tokens=tokens)))
            headers = {"authorization": f"Bearer {key.sign({'sub': 'ada'})}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock", headers=headers) as client:
                sent = [asyncio.create_task(client.get("/status")) for _ in range(20)]
                await asyncio.wait_for(provider.requested.wait(), 20)
                assert await asyncio.wait_for(asyncio.to_thread(str, 1), 5) == "1"
                await provider.close()
                assert {answer.status_code for answer in await asyncio.gather(*sent)} == {503}
            tokens.close()

    asyncio.run(scenario())


def test_without_authentication_everybody_may_do_everything() -> None:
    assert send(Authenticator(), "GET", "/status").status_code == 200
    assert send(Authenticator(), "POST", "/search", json={"text": "!"}).json() == "anonymous!"
