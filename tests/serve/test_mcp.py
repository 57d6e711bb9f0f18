"""The endpoint of the Model Context Protocol, beyond what its tools return."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

pytest.importorskip("mcp", reason="mcp is not installed: it is in the group dev")

from starlette.applications import Starlette

from penstock.serve.mcp import ANY_HOST, mcp_route
from tests.served import served

CALL = {"name": "ask", "arguments": {"question": "where is the cat?"}}
BODY = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
HEADERS = {"Accept": "application/json, text/event-stream"}


class _EndlessAsk:
    """An application whose answers never end."""

    def __init__(self) -> None:
        self.path = ""
        self.began = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.path = scope["path"]
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_tool_ends_with_its_client(*, in_pieces: bool) -> None:
    inner = _EndlessAsk()
    route = mcp_route(inner, [ANY_HOST])
    assert route is not None

    async def leave(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            request: Any = client.build_request("POST", "/mcp", json=BODY, headers=HEADERS)
            if in_pieces:
                content = request.content

                async def pieces() -> Any:
                    yield content[:20]
                    yield content[20:]

                headers = {**HEADERS, "Content-Type": "application/json"}
                request = client.build_request("POST", "/mcp", content=pieces(), headers=headers)
            asking = asyncio.create_task(client.send(request))
            assert await asyncio.to_thread(inner.began.wait, 20)
            assert not inner.cancelled.is_set()
            asking.cancel()
            await asyncio.wait([asking])
            assert await asyncio.to_thread(inner.cancelled.wait, 1)

    with served(Starlette(routes=[route])) as url:
        asyncio.run(leave(url))
    assert inner.path == "/v1/ask"
