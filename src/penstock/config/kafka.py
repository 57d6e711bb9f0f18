"""Settings of the broker and its topics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from penstock.config.section import MIB, Section
from penstock.records import Modality


class KafkaSettings(Section):
    """The broker and the topics.

    Over the limit because each setting is an attribute.
    """

    bootstrap_servers: str | None = Field(
        None, description="brokers, as host:port,…; unset: the embedded broker of data_dir"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    sasl_username: str | None = Field(None, description="user name for SASL")
    sasl_password: SecretStr | None = Field(None, description="password for SASL")
    ssl_cafile: Path | None = Field(
        None, description="file of the CA certificates that the broker's certificate is checked against"
    )
    group: str = Field("penstock", description="consumer group of the ingest plane")
    text_topic: str = Field("media.text", description="topic of text")
    image_topic: str = Field("media.image", description="topic of images")
    audio_topic: str = Field("media.audio", description="topic of audio")
    video_topic: str = Field("media.video", description="topic of video")
    dead_letter_topic: str = Field("media.dlq", description="topic of dead letters")
    control_topic: str = Field(
        "media.control",
        description="topic of one partition without records, whose owner in the group `<kafka.group>.control` holds "
        "the lease of the ingest plane's driver",
    )
    changes_topic: str = Field(
        "penstock.changes",
        description="topic of the change feed, in which the ingest plane announces what it has indexed; empty: there "
        "is none, no results are cached and no watches evaluated",
    )
    watches_topic: str = Field(
        "penstock.watches", description="compacted topic that keeps the watches; empty: there are none"
    )
    matches_topic: str = Field("penstock.matches", description="topic of the matches of watches")
    partitions: int = Field(4, ge=1, description="partitions of a topic that Penstock creates; existing ones are kept")
    replication_factor: int | None = Field(
        None, ge=1, description="replication factor of a topic that Penstock creates; unset: the broker's default"
    )
    max_message_bytes: int = Field(16 * MIB, ge=1024, description="largest message of a media topic, bytes")
    # Kafka's own default is 45 s. A killed lane does not leave the group, so that its partitions stay unassigned for
    # this long. Heartbeats come from a thread of their own, so that a busy lane does not miss them.
    session_timeout_ms: int = Field(
        15_000, ge=1_000, description="time without heartbeats after which a lane loses its partitions, milliseconds"
    )
    max_poll_interval_ms: int = Field(
        300_000, ge=1_000, description="time without a poll after which a lane loses its partitions, milliseconds"
    )

    def topics(self) -> Mapping[str, Modality]:
        """Returns the media topics with the modality of each."""
        return {getattr(self, f"{modality.value}_topic"): modality for modality in Modality}

    def topic_of(self, modality: Modality) -> str:
        """Returns the topic of a modality."""
        topic: str = getattr(self, f"{modality.value}_topic")
        return topic

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = [*(self.topic_of(modality) for modality in Modality), self.dead_letter_topic]
        names += [self.control_topic, self.matches_topic]
        names += [topic for topic in (self.changes_topic, self.watches_topic) if topic]
        if len(set(names)) != len(names):
            raise ValueError(f"a topic has one modality, but a name is used twice in {names}")
        return self
