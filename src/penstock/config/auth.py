"""Settings of the credentials of callers: API keys and tokens of an OpenID Connect issuer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.config.oidc import OidcSettings
from penstock.config.section import Section
from penstock.records import DEFAULT_ACL, MAX_LABELS, is_label


class AuthSettings(Section):
    """Identifies the callers of the query plane, and the labels of an event that has none."""

    mode: Literal["none", "keys", "oidc", "keys+oidc"] = Field(
        "none",
        description="credentials that requests need: none, API keys (keys), tokens of an issuer (oidc), or either of "
        "them (keys+oidc); none only while everything listens on loopback",
    )
    allow_anonymous: bool = Field(
        False,
        description="lets mode none listen on other addresses than loopback: all that reach the port read every "
        "tenant, as behind a proxy that authenticates",
    )
    keys_file: Path | None = Field(
        None, description="file of the API keys' hashes, read again when it changes; unset: keys.json in data_dir"
    )
    default_acl: tuple[str, ...] = Field(
        DEFAULT_ACL,
        description="labels of an event without `acl`; a caller has to have one of them to read it",
        min_length=1,
        max_length=MAX_LABELS,
    )
    oidc: OidcSettings = OidcSettings()

    @property
    def takes_keys(self) -> bool:
        """Whether API keys are credentials."""
        return self.mode in ("keys", "keys+oidc")

    @property
    def takes_tokens(self) -> bool:
        """Whether tokens of the issuer are credentials."""
        return self.mode in ("oidc", "keys+oidc")

    @field_validator("keys_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Makes the path absolute: the processes of the query plane run in folders of their own."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("default_acl")
    @classmethod
    def _has_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for label in value:
            if not is_label(label):
                raise ValueError(f"{label!r} is no label: 1 to 128 letters, digits and . _ : @ / -")
        return value

    @model_validator(mode="after")
    def _issuer_is_known(self) -> Self:
        missing = [name for name in ("issuer", "audience") if getattr(self.oidc, name) is None]
        if self.takes_tokens and missing:
            names = " and ".join(f"auth.oidc.{name}" for name in missing)
            raise ValueError(f"mode {self.mode} needs {names}, by which tokens are checked")
        return self
