"""Connects to allowed hosts only, so that a claim check cannot reach internal addresses (SSRF).

The check is made when a connection is opened, on the addresses to which it then goes. So it holds for every redirect,
for names that resolve differently the second time (DNS rebinding), and for odd spellings of an address. No part of the
URL is interpreted here.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import httpcore

from penstock.errors import BadInputError, Reason
from penstock.media.networks import NEVER, Network, is_in, is_public, parse_address
from penstock.media.own_services import OwnServices
from penstock.media.resolvers import Resolver, system_resolver

SocketOption: TypeAlias = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
"""An option of a socket, as httpcore passes it."""

_CONNECT_TIMEOUT_S = 5.0


class GuardedNetwork(httpcore.NetworkBackend):
    """A network that connects to allowed addresses only, and limits every read and write by a deadline. Thread-safe.

    Connections are kept open and used again, so that each rule has a network of its own: one that a rule has opened to
    an internal host must not serve a tenant whom another rule allows public hosts alone.

    Args:
        resolver: host names → addresses.
        allowed: networks beside the public ones.
        never: those that are refused all the same.
        own: Penstock's own services, which are refused all the same.
        proxy_host: the proxy through which all connections go, the only one that is not checked; it is of the operator.
            Empty: there is none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        resolver: Resolver = system_resolver,
        allowed: Sequence[Network] = (),
        never: Sequence[Network] = NEVER,
        own: OwnServices | None = None,
        proxy_host: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._never = never
        self._own = own or OwnServices()
        self._proxy_host = proxy_host
        self._clock = clock
        self._network = httpcore.SyncBackend()
        self._deadline_s: ContextVar[float] = ContextVar("deadline_s", default=float("inf"))

    @contextlib.contextmanager
    def until(self, deadline_s: float) -> Iterator[None]:
        """Ends everything that this thread sends or receives in the block at the deadline, by the clock."""
        token = self._deadline_s.set(deadline_s)
        try:
            yield
        finally:
            self._deadline_s.reset(token)

    def remaining_s(self, timeout_s: float | None = None) -> float | None:
        """Returns the seconds until the deadline, or the timeout if that is sooner; None if neither is set.

        Raises:
            httpcore.ReadTimeout: the deadline has passed.
        """
        remaining = self._deadline_s.get() - self._clock()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        if timeout_s is not None:
            return min(remaining, timeout_s)
        return None if remaining == float("inf") else remaining

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolves a host, checks its addresses, and connects to the first that answers.

        Raises:
            BadInputError: FORBIDDEN, if one of the addresses is not allowed.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        addresses = self._resolve(host, port, self._resolver if host == self._proxy_host else self._checked)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                wait_s = self.remaining_s(timeout or _CONNECT_TIMEOUT_S)
                stream = self._network.connect_tcp(address, port, wait_s, local_address, socket_options)
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure

    def check(self, host: str, port: int) -> None:
        """Checks a host that a proxy will connect to. A name that only the proxy can resolve is left to it.

        Raises:
            BadInputError: FORBIDDEN, if one of its addresses is not allowed.
        """
        with contextlib.suppress(httpcore.ConnectError):
            self._resolve(host, port, self._checked)

    def _checked(self, host: str, port: int) -> Sequence[str]:
        """Resolves a host, and refuses it if one of its addresses is not allowed."""
        addresses = self._resolver(host, port)
        for address in addresses:
            if fault := self._fault(address):
                raise BadInputError(Reason.FORBIDDEN, f"{host} resolves to {address}, {fault}")
        return addresses

    def _fault(self, address: str) -> str:
        """Returns why an address is refused; empty if it is allowed."""
        ip = parse_address(address)
        if is_in(ip, self._never):
            return "to which no claim check may lead"
        if self._own.has(ip):
            return "where one of Penstock's own services is"
        if is_public(address) or is_in(ip, self._allowed):
            return ""
        return "which is not public; a rule of fetch.allow may have networks"

    def _resolve(self, host: str, port: int, resolver: Resolver) -> Sequence[str]:
        """Resolves within the deadline, in a thread of its own, since getaddrinfo has no timeout."""
        answer: list[Sequence[str] | Exception] = []

        def resolve() -> None:
            try:
                answer.append(resolver(host, port))
            except Exception as exc:  # OSError, BadInputError, or UnicodeError for an invalid name; raised below
                answer.append(exc)

        thread = threading.Thread(target=resolve, name=f"resolve {host}", daemon=True)
        thread.start()
        thread.join(self.remaining_s())
        if not answer:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time")
        if isinstance(answer[0], BadInputError):
            raise answer[0]
        if isinstance(answer[0], Exception):
            raise httpcore.ConnectError(f"the name {host} does not resolve: {answer[0]}") from answer[0]
        return answer[0]


class _Stream(httpcore.NetworkStream):
    """A connection on which every wait ends at the thread's deadline, so that a slow server cannot stall it."""

    def __init__(self, stream: httpcore.NetworkStream, network: GuardedNetwork) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.remaining_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.remaining_s(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._network.remaining_s(timeout))
        return _Stream(stream, self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
