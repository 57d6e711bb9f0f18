"""Refuses requests for another host: a page of another site may reach this server by a name of its own.

A browser sends such a page's requests to this address once the page's name resolves to it (DNS rebinding), and takes
the answers for the page's own. Such a request names the page's host.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.config import QuerySettings
from penstock.config.addresses import is_loopback
from penstock.serve.problems import problem

ANY = "*"


class TrustedHost:
    """Middleware that answers HTTP 421 to requests whose `Host` is none of the names of this plane.

    The address that a client connected to is always one: a page cannot have it for a name.

    Args:
        app: the application behind it.
        hosts: names without a port; `*.example.com` stands for the names below a domain, `*` for any.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(host.lower() for host in hosts if not host.startswith("*"))
        self._endings = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._takes_any = ANY in hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, if the request is meant for it."""
        if scope["type"] not in ("http", "websocket") or self._takes_any or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        response = problem(
            status=421,
            kind="host",
            title="Another host",
            detail="this server has not the name that the request is for: see query.hosts",
            instance=scope["path"],
        )
        await response(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        name = host_of(scope)
        reached: str = (scope.get("server") or ("", None))[0]
        return name in self._names or name == reached.lower() or name.endswith(self._endings or ("\0",))


def host_of(scope: Scope) -> str:
    """Returns the host that a request is for, without its port and brackets; empty if it names none, or several."""
    values = [value for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1:
        return ""
    host: str = values[0].decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def hosts_of(query: QuerySettings) -> Collection[str]:
    """Returns the names that the settings allow: `query.hosts`, else those of the address that it listens on.

    A plane that listens on loopback has the names of loopback. On other addresses, which clients reach by names that it
    does not know, it takes any.
    """
    if query.hosts:
        return tuple(host.strip("[]") for host in query.hosts)
    if is_loopback(query.host):
        return ("localhost", "127.0.0.1", "::1", query.host.strip("[]"))
    return (ANY,)
