"""Settings of tokens of OpenID Connect: who issues them, how they are checked, which claims mean what."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from penstock.config.addresses import is_loopback
from penstock.config.section import Section

SigningAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class OidcSettings(Section):
    """Settings of bearer tokens that an OpenID Connect provider issues, for `auth.mode` oidc and keys+oidc.

    Over the limit because each setting is an attribute.
    """

    issuer: str | None = Field(
        None,
        description="address of the provider, exactly as its tokens name it in `iss`; https, or http on loopback",
    )
    audience: str | None = Field(
        None, description="the name of this Penstock at the provider: a token must name it in `aud`"
    )
    algorithms: tuple[SigningAlgorithm, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="signatures that are accepted; `none` and the symmetric HS256, HS384 and HS512 never are",
    )
    leeway_s: float = Field(60, ge=0, le=300, description="how far the clocks of provider and query plane may differ")
    timeout_s: float = Field(5, gt=0, le=60, description="deadline of a request for the provider's keys")
    refresh_s: float = Field(
        3600, ge=30, description="age from which the provider's keys are fetched again, behind the requests"
    )
    stale_s: float = Field(
        86_400 * 3,
        ge=86_400,
        description="how long keys are used while the provider does not answer; at least a day",
    )
    ca_file: Path | None = Field(
        None, description="PEM file of the certificate authority of the provider; unset: the system's"
    )
    tenant_claim: str = Field(
        "tenants", description="claim with the tenants of a token, a list or words; dots lead into nested claims"
    )
    permissions_claim: str = Field(
        "permissions", description="claim with the permissions of a token, such as `scope` or `realm_access.roles`"
    )
    permissions_prefix: str = Field(
        "", description="prefix of the values that are permissions, such as `penstock:`; others are ignored"
    )
    groups_claim: str = Field("groups", description="claim whose values are labels that the token may read")
    default_tenants: tuple[str, ...] = Field((), description="tenants of a token without `tenant_claim`")
    default_permissions: tuple[str, ...] = Field(
        (), description="permissions of a token without `permissions_claim`, such as search, ask and media"
    )
    client_id: str | None = Field(
        None, description="public client with which the page signs in; unset: the page offers no such sign-in"
    )
    scopes: str = Field("openid", description="scopes that the page requests")

    @field_validator("issuer")
    @classmethod
    def _is_secure(cls, value: str | None) -> str | None:
        if value is not None and not is_secure(value):
            raise ValueError("must begin with https://, or be http:// on loopback, without query and user name")
        return value

    @field_validator("default_permissions")
    @classmethod
    def _are_permissions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - PERMISSIONS)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a permission. Permissions: {', '.join(sorted(PERMISSIONS))}")
        return value


PERMISSIONS = frozenset(
    {"search", "ask", "feedback", "events", "media", "status", "replay", "reindex", "purge", "admin"}
)  # those of `penstock.auth.Permission`, a layer above


def is_secure(address: str) -> bool:
    """Returns whether an address is https, or http to this machine, without query, fragment or user name."""
    parts = urlsplit(address)
    if parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
