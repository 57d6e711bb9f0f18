"""Keeps the connections to servers of http and https, in a pool for each rule."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpcore
import httpx

from penstock.config import FetchSettings
from penstock.config.fetch import FetchRule
from penstock.errors import ConfigError
from penstock.media.networks import NEVER, Network, networks
from penstock.media.own_services import OwnServices
from penstock.media.resolvers import Resolver, system_resolver
from penstock.media.ssrf_guard import GuardedNetwork


@dataclass(frozen=True, slots=True)
class WebPool:
    """The connections of one rule.

    Attributes:
        connections: those that are open.
        network: opens them, and checks where they go.
        has_proxy: whether they go to a proxy, so that the hosts behind it are checked apart.
    """

    connections: httpcore.ConnectionPool
    network: GuardedNetwork
    has_proxy: bool

    def check(self, url: httpx.URL) -> None:
        """Checks the host of an address, if a proxy connects to it.

        Raises:
            BadInputError: FORBIDDEN, one of its addresses is not allowed.
        """
        if self.has_proxy:
            self.network.check(url.raw_host.decode("ascii"), url.port or 0)


class WebPools:
    """Makes the pool of a rule at its first use. Thread-safe.

    Args:
        settings: rules and proxy.
        resolver: host names → addresses.
        clock: monotonic seconds.
        ssl_context: the trusted certificates of rules without `ca_file`; None: the system's.
        own: Penstock's own services.
        never: networks that are refused whatever a rule allows.

    Raises:
        ConfigError: certificates of a rule cannot be read.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: ssl.SSLContext | None = None,
        own: OwnServices | None = None,
        never: Sequence[Network] = NEVER,
    ) -> None:
        self._proxy = settings.proxy
        self._resolver = resolver
        self._clock = clock
        self._own = own
        self._never = never
        self._lock = threading.Lock()
        self._pools: dict[FetchRule, WebPool] = {}
        self._contexts = {rule: _context_of(rule) or ssl_context for rule in settings.allow}
        self._ssl_context = ssl_context

    def of(self, rule: FetchRule) -> WebPool:
        """Returns the pool of a rule."""
        with self._lock:
            if rule not in self._pools:
                self._pools[rule] = self._open(rule)
            return self._pools[rule]

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.connections.close()
            self._pools.clear()

    def _open(self, rule: FetchRule) -> WebPool:
        network = GuardedNetwork(
            resolver=self._resolver,
            allowed=networks(rule.networks),
            never=self._never,
            own=self._own,
            proxy_host=httpx.URL(self._proxy).host if self._proxy else "",
            clock=self._clock,
        )
        context = self._contexts.get(rule, self._ssl_context)
        if self._proxy:
            connections: httpcore.ConnectionPool = httpcore.HTTPProxy(
                self._proxy,
                ssl_context=context,
                network_backend=network,
                max_connections=64,
                max_keepalive_connections=16,
                keepalive_expiry=30.0,
            )
        else:
            connections = httpcore.ConnectionPool(
                ssl_context=context,
                network_backend=network,
                max_connections=64,
                max_keepalive_connections=16,
                keepalive_expiry=30.0,
            )
        return WebPool(connections, network, self._proxy is not None)


def _context_of(rule: FetchRule) -> ssl.SSLContext | None:
    if rule.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(rule.ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"the certificates of a rule of fetch.allow cannot be read from {rule.ca_file}: {exc}"
        ) from exc
