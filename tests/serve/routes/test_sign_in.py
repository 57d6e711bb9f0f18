"""`/v1/sign-in` while the provider of the page's users is slow."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
from fastapi import FastAPI
from starlette.middleware import Middleware

from penstock.auth import Authenticator, CodeFlow
from penstock.auth.oidc import OidcTokens
from penstock.config import Settings
from penstock.serve import problems
from penstock.serve.authentication import Authentication
from penstock.serve.routes import sign_in
from tests.auth.silent_provider import silent_provider

CODE = {"code": "c", "code_verifier": "v", "redirect_uri": "http://127.0.0.1:8600/"}


def application(flow: CodeFlow) -> FastAPI:
    app = FastAPI(middleware=[Middleware(Authentication, authenticator=Authenticator())])
    app.state.query_plane = SimpleNamespace(settings=Settings(), sign_in=flow)
    app.include_router(sign_in.router)
    problems.install(app)
    return app


def test_strangers_who_sign_in_at_a_slow_provider_take_no_thread_from_other_work() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        async with silent_provider() as provider:
            flow = CodeFlow(provider.settings(), OidcTokens(provider.settings()))
            transport = httpx.ASGITransport(application(flow))
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
                shown = [asyncio.create_task(client.get("/v1/sign-in")) for _ in range(20)]
                exchanged = [asyncio.create_task(client.post("/v1/sign-in/token", json=CODE)) for _ in range(20)]
                await asyncio.wait_for(provider.requested.wait(), 20)
                assert await asyncio.wait_for(asyncio.to_thread(str, 1), 5) == "1"
                await provider.close()
                for answer in await asyncio.gather(*shown):
                    assert answer.json()["provider"]["authorization_endpoint"] is None
                assert {answer.status_code for answer in await asyncio.gather(*exchanged)} <= {429, 503}
            flow.close()

    asyncio.run(scenario())
