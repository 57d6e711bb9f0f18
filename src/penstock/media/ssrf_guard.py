"""Connects to public hosts only, so that a claim check cannot reach internal addresses (SSRF).

The check is made when a connection is opened, on the addresses to which it then goes. So it holds for every redirect,
for names that resolve differently the second time (DNS rebinding), and for odd spellings of an address. No part of the
URL is interpreted here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import httpcore

from penstock.errors import BadInputError, Reason

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""Resolves a host name and port to addresses, as text. Raises OSError if there are none."""

SocketOption: TypeAlias = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
"""An option of a socket, as httpcore passes it."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address, reached through it
_CGNAT = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_CONNECT_TIMEOUT_S = 5.0


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Returns the addresses of the operating system's resolver, in its order."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def is_public(address: str) -> bool:
    """Returns whether an address is public: not private, loopback, link-local, multicast, reserved or CGNAT.

    IPv6 addresses that contain an IPv4 one (mapped, 6to4, Teredo) are not; those of NAT64 are as public as it is.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip.is_site_local:
            return False
    return _is_public(ip)


def _is_public(ip: _Address) -> bool:
    internal = (
        ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved or ip.is_unspecified
    )
    return ip.is_global and not internal and not (ip.version == 4 and ip in _CGNAT)


class GuardedNetwork(httpcore.NetworkBackend):
    """A network that connects to public addresses only, and limits every read and write by a deadline. Thread-safe.

    Args:
        resolver: host names → addresses.
        allow_private: skips the check of addresses.
        clock: monotonic seconds.
    """

    def __init__(self, *, resolver: Resolver, allow_private: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
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
            BadInputError: FORBIDDEN, if one of the addresses is not public.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        addresses = self._resolve(host, port)
        internal = [address for address in addresses if not self._allow_private and not is_public(address)]
        if internal:
            detail = f"{host} resolves to {internal[0]}, which is not public; see fetch.allow_private_addresses"
            raise BadInputError(Reason.FORBIDDEN, detail)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                wait_s = self.remaining_s(timeout or _CONNECT_TIMEOUT_S)
                stream = self._network.connect_tcp(address, port, wait_s, local_address, socket_options)
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        """Resolves within the deadline, in a thread of its own, since getaddrinfo has no timeout."""
        answer: list[Sequence[str] | Exception] = []

        def resolve() -> None:
            try:
                answer.append(self._resolver(host, port))
            except Exception as exc:  # OSError, or UnicodeError for an invalid name; raised again below
                answer.append(exc)

        thread = threading.Thread(target=resolve, name=f"resolve {host}", daemon=True)
        thread.start()
        thread.join(self.remaining_s())
        if not answer:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time")
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
