"""A relay between the browser and the server, whose connections can be cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on in both directions.

    Attributes:
        url: where it listens.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Relay]:
        """Relays until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        thread.start()
        try:
            self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
            yield self
        finally:
            self.cut()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)

    def cut(self) -> None:
        """Ends all connections that there are now, as a network does that fails."""

        async def abort() -> int:
            for writer in self._writers:
                writer.transport.abort()
            return len(self._writers)

        asyncio.run_coroutine_threadsafe(abort(), self._loop).result(10)

    async def _listen(self) -> str:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, up = await asyncio.open_connection(*self._target)
        self._writers |= {writer, up}
        try:
            await asyncio.gather(_copy(reader, up), _copy(upstream, writer))
        finally:
            self._writers -= {writer, up}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
