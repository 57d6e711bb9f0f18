"""Checks which names of hosts the query plane answers to."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from penstock.config import QuerySettings
from penstock.serve.middleware.trusted_host import TrustedHost, hosts_of


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("inside")(scope, receive, send)


def ask(query: QuerySettings, *hosts: str, reached: str = "127.0.0.1") -> httpx.Response:
    transport = httpx.ASGITransport(TrustedHost(_app, hosts=hosts_of(query)))

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{reached}:8600") as client:
            return await client.get("/v1/status", headers=[("Host", host) for host in hosts])

    return asyncio.run(get())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8600", "127.0.0.1:8600", "[::1]:8600", "127.0.0.1"])
def test_a_plane_on_loopback_answers_to_the_names_of_loopback(host: str) -> None:
    assert ask(QuerySettings(), host).text == "inside"


@pytest.mark.parametrize("host", ["rebind.evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8600"])
def test_a_page_of_another_site_is_refused(host: str) -> None:
    refused = ask(QuerySettings(), host)
    assert refused.status_code == 421
    assert refused.json()["type"] == "urn:penstock:problem:host"
    assert "inside" not in refused.text


def test_two_hosts_are_none() -> None:
    assert ask(QuerySettings(), "localhost", "rebind.evil.example").status_code == 421


def test_names_that_are_set_are_the_only_ones_besides_the_address(no_settings: Any) -> None:
    query = QuerySettings(host="0.0.0.0", hosts=("search.example.com", "*.internal", "[2001:db8::1]"))
    for host in ("search.example.com:443", "a.internal", "[2001:db8::1]:8600", "10.0.0.7:8600"):
        assert ask(query, host, reached="10.0.0.7").text == "inside", host
    for host in ("example.com", "internal", "evilinternal", "localhost", "10.0.0.8"):
        assert ask(query, host, reached="10.0.0.7").status_code == 421, host


def test_a_plane_that_others_reach_takes_every_name_until_some_are_set() -> None:
    assert ask(QuerySettings(host="0.0.0.0"), "search.example.com").text == "inside"
    assert ask(QuerySettings(hosts=("*",)), "search.example.com").text == "inside"
