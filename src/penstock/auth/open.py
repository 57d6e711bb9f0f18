"""Opens the authenticator of the settings, and refuses to listen to others without one."""

from __future__ import annotations

from penstock.auth.authenticator import Authenticator
from penstock.auth.code_flow import CodeFlow
from penstock.auth.keys import KeyFile
from penstock.auth.oidc import OidcTokens
from penstock.config import Settings, is_loopback
from penstock.errors import ConfigError


def open_authenticator(settings: Settings) -> Authenticator:
    """Returns what finds the principals of requests, by `auth.mode`.

    Raises:
        ConfigError: the file of API keys is absent or invalid.
    """
    auth = settings.auth
    return Authenticator(
        KeyFile(settings.keys_file) if auth.takes_keys else None, OidcTokens(auth.oidc) if auth.takes_tokens else None
    )


def open_code_flow(settings: Settings) -> CodeFlow | None:
    """Returns what signs users of the page in at the provider; None if the settings name no client for it."""
    oidc = settings.auth.oidc
    if not settings.auth.takes_tokens or oidc.client_id is None:
        return None
    return CodeFlow(oidc, OidcTokens(oidc))


def check_exposure(settings: Settings, setting: str, host: str) -> None:
    """Refuses an address that others reach while `auth.mode` is none.

    Args:
        settings: all settings.
        setting: the name of the setting that has the address.
        host: the address to listen on.

    Raises:
        ConfigError: all that reach the address would read every tenant.
    """
    if settings.auth.mode != "none" or settings.auth.allow_anonymous or is_loopback(host):
        return
    raise ConfigError(
        f"{setting} is {host}, and auth.mode is none: all that reach this address would read every tenant. Set "
        "auth.mode to keys or oidc, listen on 127.0.0.1, or set auth.allow_anonymous to true behind a proxy that "
        "authenticates"
    )
