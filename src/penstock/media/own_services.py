"""The addresses of Penstock's own services, to which no claim check may lead."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import urlsplit

from penstock.config import Settings
from penstock.media.networks import Address, parse_address
from penstock.media.resolvers import Resolver, system_resolver

_KEPT_S = 30.0  # a service that moves is known by its new address after that


def own_hosts(settings: Settings) -> tuple[str, ...]:
    """Returns the hosts of Kafka, the store, Ray, Redis, and of the Kubernetes that runs this process.

    Raises:
        ConfigError: the file that names the Redis of rate limits cannot be read.
    """
    kafka = (settings.kafka.bootstrap_servers or "").split(",")
    urls = [settings.store.uri, settings.ray_address, settings.limits.secret("redis_url")]
    own = [os.environ.get(name, "") for name in ("KUBERNETES_SERVICE_HOST", "RAY_REDIS_ADDRESS")]
    texts = [*kafka, *(url for url in urls if url), *own]
    return tuple(dict.fromkeys(host for text in texts if (host := _host(text.strip()))))


def _host(text: str) -> str:
    """Returns the host of a URL, or of `host:port`; empty if there is none, as of a path."""
    if text.startswith(("/", ".")) or text in ("auto", "local"):
        return ""
    with suppress(ValueError):
        return urlsplit(text if "://" in text else f"//{text}").hostname or ""
    return ""


class OwnServices:
    """Knows the addresses of the services by their names. Thread-safe.

    Args:
        hosts: of the services.
        resolver: host names → addresses.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        hosts: Collection[str] = (),
        *,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = tuple(hosts)
        self._resolver = resolver
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[str, frozenset[Address]] = {}
        self._resolved_s = float("-inf")

    def has(self, address: Address) -> bool:
        """Returns whether one of the services is at this address."""
        if not self._hosts:
            return False
        with self._lock:
            if self._clock() - self._resolved_s > _KEPT_S:
                for host in self._hosts:
                    self._resolve(host)
                self._resolved_s = self._clock()
            return any(address in addresses for addresses in self._addresses.values())

    def _resolve(self, host: str) -> None:
        """Keeps the addresses of a host; the former ones if it does not resolve now."""
        with suppress(OSError, UnicodeError, ValueError):
            self._addresses[host] = frozenset(parse_address(text) for text in self._resolver(host, 0))
