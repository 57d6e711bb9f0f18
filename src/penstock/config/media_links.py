"""Settings of signed links to media."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from penstock.config.section import Section


class MediaLinkSettings(Section):
    """The signatures of links to media, thumbnails and captions in answers, where `auth.mode` is not none."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="signs the links to media in answers, at least 32 characters, the same for all replicas; unset: "
        "one that the data folder keeps",
    )
    key_file: Path | None = Field(None, description="file that holds media_links.key; read again at each use")
    previous_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="the key before media_links.key, whose links are valid until they expire: to replace a key, make "
        "it this one first",
    )
    previous_key_file: Path | None = Field(
        None, description="file that holds media_links.previous_key; read again at each use"
    )
    lifetime_s: float = Field(
        900.0,
        ge=60,
        le=86_400,
        description="time after which a link is no longer valid, seconds; up to a fifth earlier",
    )
    bound: bool = Field(
        False,
        description="whether a link is valid only with credentials of the caller whose answer had it; browsers send "
        "none with images and players, so that false is what the page needs",
    )
