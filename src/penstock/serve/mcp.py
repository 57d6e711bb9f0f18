"""`/mcp`: the tools of a model, over the streamable HTTP transport of the Model Context Protocol.

Each request is served on its own, without a session, so that any replica answers it. The tools call this application
by its own routes, within the process and on behalf of the same principal: they have the permissions, limits, metrics
and errors of every other client.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
from starlette.datastructures import QueryParams
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.client import AsyncPenstockClient, RetryPolicy
from penstock.serve.authentication import on_behalf_of
from penstock.serve.event_stream import ClientGoneError, until_gone

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings

PATH = "/mcp"
ANY_HOST = "*"


def mcp_route(app: ASGIApp, hosts: Sequence[str]) -> Route | None:
    """Returns the route; None where the extra `mcp` is not installed.

    Args:
        app: whose routes the tools call.
        hosts: names of this server in requests (`Host`, `Origin`), without their port; others are refused, so that a
            page of another site cannot reach it by a name of its own that resolves to this address. `*`: any.
    """
    if importlib.util.find_spec("mcp") is None:
        return None
    # By methods: a GET would open a stream for messages of the server, which sends none.
    return Route(PATH, endpoint=McpEndpoint(app, hosts), methods=["POST"], include_in_schema=False)


class McpEndpoint:
    """An ASGI application that serves each request by a server of its own."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = hosts
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request until its client goes. The parameter `tenant` of its URL names whose index the tools use."""
        tenant = QueryParams(scope["query_string"]).get("tenant")
        manager_of = await asyncio.to_thread(self._imported)
        transport = httpx.ASGITransport(on_behalf_of(scope, self._app), raise_app_exceptions=False)
        # Its own plane is never busy elsewhere: what is refused is refused to the model, too.
        retries = RetryPolicy(max_retries=0)
        async with AsyncPenstockClient("http://mcp", tenant=tenant, transport=transport, retries=retries) as client:
            manager = manager_of(client)
            request = _RequestBody(receive)
            async with manager.run():
                serving = manager.handle_request(scope, request.receive, send)
                with suppress(ClientGoneError):
                    await until_gone(request.gone, serving)

    def _imported(self) -> Any:
        """Returns a function from a client to what serves a request. The package takes 0.7 s to import, once."""
        with self._lock:
            from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

            from penstock.integrations.mcp_server import mcp_server

        security = transport_security(self._hosts)
        return lambda client: StreamableHTTPSessionManager(
            mcp_server(client), stateless=True, json_response=True, security_settings=security
        )


class _RequestBody:
    """Reads a request on behalf of an application, beside one that waits for the departure of its client.

    Only one of them may call `receive` at a time: the application until it has the body, the other one behind it.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = asyncio.Event()
        self._left = asyncio.Event()

    async def receive(self) -> Message:
        """Returns the parts of the body, and then the departure of the client."""
        if self._read.is_set():
            await self._left.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._left.set()
        if not message.get("more_body", False):
            self._read.set()
        return message

    async def gone(self) -> Message:
        """Returns the departure of the client."""
        await self._read.wait()
        while not self._left.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._left.set()
        return {"type": "http.disconnect"}


def transport_security(hosts: Sequence[str]) -> TransportSecuritySettings:
    """Returns the check of `Host` and `Origin` for names without ports."""
    from mcp.server.transport_security import TransportSecuritySettings

    if ANY_HOST in hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return TransportSecuritySettings(
        allowed_hosts=[form for host in hosts for form in (host, f"{host}:*")],
        allowed_origins=[form for origin in origins for form in (origin, f"{origin}:*")],
    )
