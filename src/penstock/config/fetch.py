"""Settings for the media behind claim checks: the rules that say which tenant may name what."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.config.secrets import refuse_userinfo
from penstock.config.section import MIB, Section

_REPLACED = {
    "allowed_roots": 'a rule for each folder: {tenants = ["*"], scheme = "file", prefix = "/folder"}',
    "allowed_schemes": "a rule for each bucket and folder; fetch.allow_public = false for http and https",
    "allow_private_addresses": 'a rule with networks: {tenants = ["*"], scheme = "https", host = "media.internal", '
    'networks = ["10.0.0.0/8"]}',
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class FetchRule(Section):
    """One entry of `fetch.allow`: places that claim checks of some tenants may name.

    Attributes:
        tenants: their names; `*` is every tenant.
        scheme: http, https, s3 or file.
        host: of http and https: a name, `name:port`, or `*.domain` for the names below a domain.
        bucket: of s3.
        prefix: the path below which media lie, by whole names; of `file` the folder, which is required.
        networks: non-public networks in which the host may be, such as `10.20.0.0/16`. Loopback, link-local addresses,
            those of metadata services and of Penstock's own services are refused all the same.
        ca_file: certificates (PEM) that a server of https is checked against; None: those of the system.
        credentials_file, credentials_env: where the credentials are, which only this rule's place receives: of http the
            value of the header `Authorization`, of s3 `KEY_ID:SECRET`. s3 without: those of the worker's environment.
        endpoint: of s3, instead of `fetch.s3_endpoint`.
        keep_query: keep the query of an address in the index.
        show: give the address to readers, with hits.
    """

    tenants: tuple[str, ...] = Field(min_length=1)
    scheme: Literal["http", "https", "s3", "file"]
    host: str | None = None
    bucket: str | None = None
    prefix: str = ""
    networks: tuple[str, ...] = ()
    ca_file: Path | None = None
    credentials_file: Path | None = None
    credentials_env: str | None = None
    endpoint: str | None = None
    keep_query: bool = False
    show: bool = False

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        web = self.scheme in ("http", "https")
        if web != (self.host is not None):
            raise ValueError("a rule of http or https names a host, and no other does")
        if (self.scheme == "s3") != (self.bucket is not None):
            raise ValueError("a rule of s3 names a bucket, and no other does")
        if self.scheme == "file" and not Path(self.prefix).is_absolute():
            raise ValueError("a rule of file names a folder as its prefix, by an absolute path")
        if not web and self.networks:
            raise ValueError("networks are of http and https; the endpoint of s3 is the operator's own")
        if self.scheme != "https" and self.ca_file is not None:
            raise ValueError("ca_file is of https")
        if self.scheme != "s3" and self.endpoint is not None:
            raise ValueError("endpoint is of s3")
        if self.credentials_file is not None and self.credentials_env is not None:
            raise ValueError("credentials_file and credentials_env are both set: leave one of them out")
        has_credentials = self.credentials_file is not None or self.credentials_env is not None
        if has_credentials and self.scheme not in ("https", "s3"):
            raise ValueError("credentials would travel in the clear: use https or s3")
        return self

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("credentials_env")
    @classmethod
    def _is_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError("is not the name of an environment variable")
        return value


class FetchSettings(Section):
    """The places that a claim check (`dataref`) may point to. Everything else is refused."""

    allow: tuple[FetchRule, ...] = Field(
        (),
        description="rules, of which the first that fits counts: tenants, scheme, host or bucket, prefix, networks, "
        "ca_file, credentials_file or credentials_env, endpoint, keep_query, show; a file or bucket needs one",
    )
    allow_public: bool = Field(
        True, description="allow http and https to public addresses for every tenant, where no rule fits"
    )
    proxy: str | None = Field(
        None, description="URL of a proxy through which http and https go, which checks addresses as well"
    )
    max_bytes: int = Field(256 * MIB, ge=1, description="largest media, fetched or inline, bytes")
    deadline_s: float = Field(
        30.0, gt=0, description="time for a claim check with all its attempts, seconds; then it is `unreachable`"
    )
    s3_endpoint: str | None = Field(None, description="endpoint of an S3-compatible store")

    @model_validator(mode="before")
    @classmethod
    def _names_what_was_replaced(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in _REPLACED.keys() & value.keys():
                raise ValueError(f"fetch.{name} was replaced by rules (fetch.allow): {_REPLACED[name]}")
        return value

    @field_validator("proxy")
    @classmethod
    def _has_no_userinfo(cls, value: str | None) -> str | None:
        return refuse_userinfo(value, "let the proxy know this client by its address")

    def folders_of(self, tenant: str) -> tuple[Path, ...]:
        """Returns the folders whose files the claim checks of a tenant may name."""
        return tuple(
            Path(rule.prefix) for rule in self.allow if rule.scheme == "file" and {"*", tenant} & set(rule.tenants)
        )
