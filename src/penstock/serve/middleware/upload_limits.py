"""Bounds the bodies that wait in Ray Serve's proxy: each in bytes and time, all in bytes and number.

Serve's proxy accepts a body as fast as its client sends it, and keeps it until a replica has read it. The limits of a
replica (`body_limit`) come behind that.

Bodies come before credentials are checked, so no client may use a bound up. Small bodies, which most requests have,
have bounds of their own; and of each bound a client may hold as much as is free (the dynamic thresholds of Choudhury
and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): half of it alone, a third each
of two.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.serve.problems import problem

_RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one proxy.

    Attributes:
        max_body_bytes: of one body.
        max_held_bytes: of all bodies that no replica has answered yet.
        max_unfinished: requests whose body is not complete.
        small_bytes: bodies that announce no more count among the small ones and not among the others.
        max_small_held_bytes: as `max_held_bytes`, of small bodies.
        max_small_unfinished: as `max_unfinished`, of small bodies.
        first_s: for any body to be complete, seconds.
        min_bytes_per_s: a body that comes faster may take longer.
    """

    max_body_bytes: int
    max_held_bytes: int
    max_unfinished: int = 256
    small_bytes: int = 64 * 1024
    max_small_held_bytes: int = 64 * 1024 * 1024
    max_small_unfinished: int = 2048
    first_s: float = 10.0
    min_bytes_per_s: float = 256 * 1024


class _Refused(Exception):  # noqa: N818  # an answer, not an error
    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


class UploadGuard:
    """Middleware that receives each body as a whole, within the limits, before the application is called.

    Args:
        app: the application behind it.
        limits: of this process.
    """

    def __init__(self, app: ASGIApp, *, limits: UploadLimits) -> None:
        self._app = app
        self._limits = limits
        self._large = _Bounds(limits.max_held_bytes, limits.max_unfinished)
        self._small = _Bounds(limits.max_small_held_bytes, limits.max_small_unfinished)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 408, 413 or 429 with a problem document, or calls the application with the whole body."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        bounds = self._small if 0 < _announced(scope) <= self._limits.small_bytes else self._large
        upload = _Upload(bounds, _client(scope))
        try:
            try:
                body = await self._receive(scope, receive, upload)
            except _Refused as refused:
                await _refuse(refused, scope, receive, send)
                return
            if body is None:  # the client has gone
                return
            await self._app(scope, _replayed(body, receive), upload.released_by(send))
        finally:
            upload.release()

    async def _receive(self, scope: Scope, receive: Receive, upload: _Upload) -> bytes | None:
        limits = self._limits
        if _announced(scope) > limits.max_body_bytes:
            raise self._too_large()
        clock = asyncio.get_running_loop().time
        began_s, body, more = clock(), bytearray(), True
        upload.begin()
        try:
            while more:
                until_s = began_s + limits.first_s + upload.size / limits.min_bytes_per_s
                async with asyncio.timeout(max(0.0, until_s - clock())):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                piece, more = message.get("body", b""), message.get("more_body", False)
                body += piece
                upload.add(len(piece))
                if upload.size > limits.max_body_bytes:
                    raise self._too_large()
        except TimeoutError:
            slow = f"the body was not complete after {clock() - began_s:.0f} s"
            raise _Refused(408, "Request Timeout", slow) from None
        finally:
            upload.finish()
        return bytes(body)

    def _too_large(self) -> _Refused:
        return _Refused(413, "Content Too Large", f"a body may have at most {self._limits.max_body_bytes:,} bytes")


class _Shares:
    """A bound that clients share."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self.used = 0
        self._used_by: Counter[str] = Counter()  # client

    def use(self, client: str, amount: int) -> bool:
        """Uses an amount. Returns whether the client then holds no more than is free."""
        self.used += amount
        self._used_by[client] += amount
        return self._used_by[client] <= self._bound - self.used

    def free(self, client: str, amount: int) -> None:
        """Gives an amount back."""
        self.used -= amount
        self._used_by[client] -= amount
        if not self._used_by[client]:
            del self._used_by[client]


class _Bounds:
    """The bounds of all bodies, or of all small ones."""

    def __init__(self, max_held_bytes: int, max_unfinished: int) -> None:
        self.held_bytes = _Shares(max_held_bytes)
        self.unfinished = _Shares(max_unfinished)


class _Upload:
    """One body, whose bytes count until a replica begins to answer."""

    def __init__(self, bounds: _Bounds, client: str) -> None:
        self.size = 0
        self._bounds = bounds
        self._client = client
        self._counted = 0

    def begin(self) -> None:
        """Counts the body among those that are incomplete, until `finish`. Raises _Refused beyond the bound."""
        if not self._bounds.unfinished.use(self._client, 1):
            self.finish()
            raise _Refused(429, "Too Many Requests", "too many bodies are being received, of this client or of all")

    def finish(self) -> None:
        """Counts the body as complete."""
        self._bounds.unfinished.free(self._client, 1)

    def add(self, size: int) -> None:
        """Counts bytes of the body. Raises _Refused beyond the bound."""
        self.size += size
        self._counted += size
        if not self._bounds.held_bytes.use(self._client, size):
            held = "too many bytes of bodies are being received, of this client or of all"
            raise _Refused(429, "Too Many Requests", held)

    def release(self) -> None:
        """Gives the bytes back. Once they are, this changes nothing."""
        self._bounds.held_bytes.free(self._client, self._counted)
        self._counted = 0

    def released_by(self, send: Send) -> Send:
        """Returns `send`, with the first message of which the body counts no more."""

        async def sent(message: Message) -> None:
            self.release()
            await send(message)

        return sent


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that has the body first."""
    pending = [body]

    async def received() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return received


async def _refuse(refused: _Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, and has the connection closed, on which the rest of the body may still come."""
    response = problem(
        status=refused.status, kind="http", title=refused.title, detail=refused.detail, instance=scope["path"]
    )
    response.headers["Connection"] = "close"
    if refused.status == 429:
        response.headers["Retry-After"] = str(_RETRY_AFTER_S)
    await response(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return _announced(scope) > 0 or b"transfer-encoding" in names


def _client(scope: Scope) -> str:
    """Returns the address of a client, of IPv6 the network of 64 bits, in which one client has any number of them."""
    host: str = (scope.get("client") or ("", 0))[0]
    try:
        address = ip_address(host)
    except ValueError:  # a socket of another kind
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{int(address) >> 64:x}"
    return host


def _announced(scope: Scope) -> int:
    """Returns the bytes that a body will have; 0: it has none, or comes in chunks."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0
