"""Finds the API key that commands of this machine send to the query plane."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from penstock.config.endpoints import Endpoints, read_endpoints
from penstock.config.settings import Settings
from penstock.errors import ConfigError


def api_key_for(url: str, settings: Settings) -> str | None:
    """Returns the API key or bearer token for requests to an address; None: there is none.

    1. `api_key`, or the content of `api_key_file`: the user who sets them chooses the address, too.
    2. the key that `penstock up` made in the data folder, for the query plane of this `up` alone.

    Files are read again at each call, so that a key can be rotated.

    Raises:
        ConfigError: the file cannot be read, or contains no key.
    """
    if settings.has_secret("api_key"):
        return _checked(settings.secret("api_key"), "api_key")
    running = read_endpoints(settings.data_dir)
    key_file = local_key_file(settings.data_dir)
    if running is not None and _is_of(url, running) and key_file.exists():
        return _checked(key_file.read_text(), str(key_file))
    return None


def authorization_for(url: str, settings: Settings) -> dict[str, str]:
    """Returns the header with the key for requests to an address; empty without one. Errors as `api_key_for`."""
    key = api_key_for(url, settings)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def metrics_authorization(settings: Settings) -> dict[str, str]:
    """Returns the header for the endpoints of nodes; empty if they need no token. Errors as `api_key_for`."""
    token = settings.metrics.secret("token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def local_key_file(data_dir: Path) -> Path:
    """Returns the path of the key that `penstock up` makes for its own user, whether it exists or not."""
    return data_dir / "api-key"


def _checked(value: str, name: str) -> str:
    """Returns a credential that can be sent in a header. Raises ConfigError, which does not show it, if it cannot."""
    stripped = value.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ConfigError(f"{name} is no API key or token: it is empty, or has spaces or other characters than ASCII's")
    return stripped


def _is_of(url: str, running: Endpoints) -> bool:
    """Returns whether an address is the query plane of the running `up`: the same scheme, host and port."""
    return _origin(url) == _origin(running.query_url)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None
