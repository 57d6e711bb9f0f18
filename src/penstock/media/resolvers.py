"""Resolves the names of hosts."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TypeAlias

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""Resolves a host name and port to addresses, as text. Raises OSError if there are none."""


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Returns the addresses of the operating system's resolver, in its order."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))
