"""An OpenID Connect provider on loopback that takes connections and never answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.config.oidc import OidcSettings
from tests.auth.token_server import AUDIENCE, CLIENT_ID


class SilentProvider:
    """A provider that does not answer.

    Attributes:
        requested: set once a request waits for it.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.requested = asyncio.Event()
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._connections: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begins to take connections."""
        self._server = await asyncio.start_server(self._take, sock=self._listener)

    async def close(self) -> None:
        """Ends all connections, and takes no more."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.close()

    def settings(self) -> OidcSettings:
        """Returns settings that wait a minute for it."""
        issuer = f"http://127.0.0.1:{self._port}"
        return OidcSettings(issuer=issuer, audience=AUDIENCE, client_id=CLIENT_ID, timeout_s=60)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(writer)
        await reader.read(1)
        self.requested.set()


@asynccontextmanager
async def silent_provider() -> AsyncIterator[SilentProvider]:
    """Yields a provider, whose connections end with the block."""
    provider = SilentProvider(socket.create_server(("127.0.0.1", 0)))
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()
