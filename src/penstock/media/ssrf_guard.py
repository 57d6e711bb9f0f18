"""Which hosts a claim check may reach, and a network that reaches no others.

The check sits where the connection is made, on the addresses that the connection then goes to. So it holds for every
redirect, for names that resolve to something else the second time (DNS rebinding), and for odd spellings of an address,
without a word of the URL being interpreted here.
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
"""Host name and port → its addresses, as text. Raises OSError if it has none."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address, reached through it
_CGNAT = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_CONNECT_TIMEOUT_S = 5.0


def system_resolver(host: str, port: int) -> Sequence[str]:
    """The addresses by the operating system's resolver, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is of the public internet: not private, loopback, link-local, multicast, reserved or CGNAT.

    IPv6 addresses that carry an IPv4 one inside (mapped, 6to4, Teredo) are refused; those of NAT64 are judged by it.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip.is_site_local:
            return False
    return _is_public(ip)


def _is_public(ip: _Address) -> bool:
    refused = (
        ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved or ip.is_unspecified
    )
    return ip.is_global and not refused and not (ip.version == 4 and ip in _CGNAT)


class GuardedNetwork(httpcore.NetworkBackend):
    """Connects to public addresses only, and keeps every read and write within a deadline. Thread-safe.

    Args:
        resolver: names → addresses.
        allow_private: leaves the check of addresses out.
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
        """Within it, whatever this thread sends or receives ends at the deadline, by the clock."""
        token = self._deadline_s.set(deadline_s)
        try:
            yield
        finally:
            self._deadline_s.reset(token)

    def remaining_s(self, timeout_s: float | None = None) -> float | None:
        """Seconds until the deadline, or the timeout if that is sooner; None: neither is set.

        Raises:
            httpcore.ReadTimeout: the deadline has passed.
        """
        left = self._deadline_s.get() - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        if timeout_s is not None:
            return min(left, timeout_s)
        return None if left == float("inf") else left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolves, checks and connects, to the first of the checked addresses that answers.

        Raises:
            BadInputError: FORBIDDEN; one address that is not public is enough.
            httpcore.ConnectError, httpcore.ConnectTimeout: none answers.
        """
        addresses = self._resolve(host, port)
        refused = [address for address in addresses if not self._allow_private and not is_public(address)]
        if refused:
            detail = f"{host} is at {refused[0]}, no public address; see fetch.allow_private_addresses"
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
        """The resolver's answer within the deadline: getaddrinfo knows no timeout, so it gets a thread of its own."""
        answer: list[Sequence[str] | Exception] = []

        def ask() -> None:
            try:
                answer.append(self._resolver(host, port))
            except Exception as exc:  # OSError, or UnicodeError for what is no name; raised below, in the caller
                answer.append(exc)

        thread = threading.Thread(target=ask, name=f"resolve {host}", daemon=True)
        thread.start()
        thread.join(self.remaining_s())
        if not answer:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time")
        if isinstance(answer[0], Exception):
            raise httpcore.ConnectError(f"the name {host} does not resolve: {answer[0]}") from answer[0]
        return answer[0]


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the thread that waits: a server that drips cannot stall."""

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
