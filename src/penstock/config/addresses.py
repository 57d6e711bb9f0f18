"""Distinguishes the addresses to which a secret may be sent without TLS, and trusts the CAs of those with TLS."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from penstock.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Returns whether a host, by its usual name or its address, is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_in_the_clear(url: str) -> bool:
    """Returns whether a request to a URL leaves this machine without encryption."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "tcp") and not is_loopback(parts.hostname or "")


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """Returns the client's side of TLS, which checks certificates against a file of CAs; None: those of the system.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"the CA certificates of {ca_file} cannot be used: {exc}") from exc
