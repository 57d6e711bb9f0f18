"""Settings of replays: the keys that sign them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from penstock.config.section import Section


class ReplaySettings(Section):
    """The keys by which the ingest plane knows a replay, so that no producer can claim another event's origin."""

    key: SecretStr | None = Field(
        None,
        description="secret that signs replays, the same on every node of ingest and for `penstock deadletters "
        "replay`; unset: one that is made in data_dir, for a single machine",
    )
    key_file: Path | None = Field(None, description="file that holds replay.key")
    previous_key: SecretStr | None = Field(
        None, description="the former secret, which is still accepted while the key is rotated"
    )
    previous_key_file: Path | None = Field(None, description="file that holds replay.previous_key")
    allow_unsigned: bool = Field(
        False,
        description="believes replays without a signature, also those that a producer forges; to be set while ingest "
        "fills a new store.version from topics that hold replays of a release without signatures, and for an audit of "
        "them, and unset after that",
    )
