"""Settings of the broker and its topics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.config.addresses import is_in_the_clear
from penstock.config.envelope import EnvelopeSettings
from penstock.config.secrets import refuse_userinfo
from penstock.config.section import MIB, Section
from penstock.config.topic_owners import HEADER, TopicOwner, pattern_of
from penstock.errors import ConfigError
from penstock.records import Modality

_MECHANISM_OF_TOKENS = "OAUTHBEARER"
_OF_SASL = ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file")
_OF_TLS = ("ssl_certfile", "ssl_keyfile", "ssl_key_password", "ssl_key_password_file")


class KafkaOAuthSettings(Section):
    """The source of the tokens of `sasl_mechanism` OAUTHBEARER: an endpoint, by client credentials, or a file."""

    token_url: str | None = Field(
        None, description="token endpoint of the identity provider, requested by client credentials (RFC 6749, 4.4)"
    )
    client_id: str | None = Field(None, description="client id there")
    client_secret: SecretStr | None = Field(None, description="client secret there")
    client_secret_file: Path | None = Field(None, description="file of the client secret, read for each token")
    scope: str | None = Field(None, description="scopes of the token, with spaces between them; unset: the provider's")
    ca_file: Path | None = Field(
        None, description="file of the CA certificates (PEM) of the token endpoint; unset: those of the system"
    )
    token_file: Path | None = Field(
        None,
        description="file that has a token, such as of a Kubernetes service account, read again for each connection",
    )

    @field_validator("token_url")
    @classmethod
    def _is_encrypted(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith(("http://", "https://")) or is_in_the_clear(value)):
            raise ValueError("the client secret is sent there: use an https address")
        return refuse_userinfo(value, "set client_id and client_secret_file")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        credentials = self.client_id is not None and self.has_secret("client_secret")
        if self.token_url is not None and not credentials:
            raise ValueError("token_url needs client_id, and client_secret or client_secret_file")
        if self.token_url is not None and self.token_file is not None:
            raise ValueError("token_url and token_file are both set: leave one of them out")
        return self


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
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, with SASL_SSL or SASL_PLAINTEXT"
    )
    sasl_username: str | None = Field(None, description="user name for SASL")
    sasl_password: SecretStr | None = Field(None, description="password for SASL")
    sasl_password_file: Path | None = Field(
        None, description="file of the password for SASL, read again for each connection"
    )
    allow_clear_password: bool = Field(
        False, description="lets PLAIN and OAUTHBEARER send password or token in the clear, as to a broker on loopback"
    )
    ssl_cafile: Path | None = Field(
        None,
        description="file of the CA certificates (PEM) that the broker's certificate is checked against; unset: those "
        "of the system",
    )
    ssl_certfile: Path | None = Field(
        None, description="file of the client certificate (PEM), for brokers that demand one (mutual TLS)"
    )
    ssl_keyfile: Path | None = Field(
        None, description="file of the key of ssl_certfile (PEM); unset: the key is in ssl_certfile"
    )
    ssl_key_password: SecretStr | None = Field(None, description="password of that key, if it is encrypted")
    ssl_key_password_file: Path | None = Field(None, description="file of the password of that key")
    ssl_check_hostname: bool = Field(
        True, description="whether the broker's certificate must be for the name in bootstrap_servers"
    )
    oauth: KafkaOAuthSettings = Field(KafkaOAuthSettings(), description="tokens of OAUTHBEARER")
    client_id: str = Field(
        "penstock",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="name of the clients in the broker's log, metrics and quotas; one for each plane tells them apart",
    )
    client_rack: str | None = Field(
        None,
        description="zone of this machine, as brokers name theirs (broker.rack): lanes read from a replica in it where "
        "the broker has a replica selector",
    )
    group_instance_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="static membership of lanes, each by this name and its number: one that is back within "
        "session_timeout_ms has its partitions without a rebalance; unset: a lane that ends leaves the group",
    )
    group: str = Field("penstock", description="consumer group of the ingest plane")
    text_topic: str = Field("media.text", description="topic of text")
    image_topic: str = Field("media.image", description="topic of images")
    audio_topic: str = Field("media.audio", description="topic of audio")
    video_topic: str = Field("media.video", description="topic of video")
    document_topic: str = Field("media.document", description="topic of documents")
    tenants: dict[str, TopicOwner] | str | None = Field(
        None,
        description="whose events a topic carries: a pattern such as media.{tenant}.{modality}, or a map of topics to "
        "tenants, and an event that names another tenant is `forbidden`; header: each producer names the tenant, so "
        "that a client that may write to a topic writes for every tenant; unset: as header, which ingest refuses while "
        "auth.mode is not none",
    )
    framed_topics: tuple[str, ...] = Field(
        (),
        description="media topics whose values begin with the five bytes of a Schema Registry serializer, which are "
        "taken off; what follows them must be media or a CloudEvent in JSON, as schemas are not read",
    )
    envelopes: dict[str, EnvelopeSettings] = Field(
        default_factory=dict,
        description="media topics that have rows of tables in the envelope of a connector, each with its kind, connect "
        "or debezium, and the columns that are text, uri or data, title, time, acl and attributes",
    )
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
        """Returns the media topics with the modality of each.

        Raises:
            ConfigError: they are named by a pattern, and were not looked up (`broker.tenant_topics`).
        """
        if isinstance(self.tenants, dict):
            modalities = self._modalities()
            return {topic: owner.modality or modalities[topic] for topic, owner in self.tenants.items()}
        if pattern_of(self.tenants) is not None:
            raise ConfigError("kafka.tenants is a pattern, so the topics that there are have to be looked up first")
        return self._modalities()

    def topic_of(self, modality: Modality, tenant: str | None = None) -> str:
        """Returns the topic of a modality for a tenant; for any tenant, if it is None.

        Raises:
            ConfigError: there is none.
        """
        if tenant is not None and (pattern := pattern_of(self.tenants)) is not None:
            return pattern.topic_of(tenant, modality)
        for topic, of in self.topics().items():
            if of is modality and (tenant is None or self.tenant_of(topic) in (None, tenant)):
                return topic
        raise ConfigError(f"kafka.tenants has no topic of {modality}" + (f" for the tenant {tenant}" if tenant else ""))

    @property
    def has_owners(self) -> bool:
        """Whether topics belong to tenants, so that events do not choose theirs."""
        return self.tenants is not None and self.tenants != HEADER

    def topics_of(self, modalities: Collection[Modality]) -> Mapping[str, Modality]:
        """Returns those of the media topics that carry one of these modalities, with the modality of each.

        Raises:
            ConfigError: as `topics` does.
        """
        return {topic: modality for topic, modality in self.topics().items() if modality in modalities}

    def tenant_of(self, topic: str) -> str | None:
        """Returns the tenant to whom a topic belongs; None if each of its events names its own."""
        if (pattern := pattern_of(self.tenants)) is not None:
            owner = pattern.owner_of(topic)
        else:
            owner = self.tenants.get(topic) if isinstance(self.tenants, dict) else None
        return None if owner is None else owner.tenant

    def modality_of(self, topic: str) -> Modality | None:
        """Returns the modality of a topic; None if it is no topic of media."""
        if (pattern := pattern_of(self.tenants)) is not None:
            return owner.modality if (owner := pattern.owner_of(topic)) is not None else None
        return self.topics().get(topic)

    def _modalities(self) -> Mapping[str, Modality]:
        """Returns the modality of each of the topics that have a setting."""
        return {getattr(self, f"{modality.value}_topic"): modality for modality in Modality}

    @property
    def uses_sasl(self) -> bool:
        """Whether clients authenticate with a user and a password."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tokens(self) -> bool:
        """Whether clients authenticate with a token (OAUTHBEARER)."""
        return self.sasl_mechanism == _MECHANISM_OF_TOKENS

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @model_validator(mode="after")
    def _credentials_are_used(self) -> Self:
        """Refuses credentials that would not be used, and a password that would be sent in the clear."""
        sasl = {name: getattr(self, name) for name in _OF_SASL}
        tls = {name: getattr(self, name) for name in _OF_TLS}
        if not self.uses_sasl and (given := _given(sasl)):
            raise ValueError(
                f"{given} would not be used with security_protocol {self.security_protocol}: set SASL_SSL, or leave "
                "the credentials out"
            )
        if not self.uses_tls and (given := _given(tls)):
            raise ValueError(
                f"{given} would not be used with security_protocol {self.security_protocol}: set SASL_SSL or SSL, or "
                "leave it out"
            )
        if self.ssl_certfile is None and (self.ssl_keyfile or self.has_secret("ssl_key_password")):
            raise ValueError("ssl_keyfile and ssl_key_password are of a client certificate: set ssl_certfile, too")
        readable = self.uses_sasl and self.sasl_mechanism in ("PLAIN", _MECHANISM_OF_TOKENS) and not self.uses_tls
        if readable and not self.allow_clear_password:
            raise ValueError(
                f"sasl_mechanism {self.sasl_mechanism} with security_protocol SASL_PLAINTEXT would send the password "
                "in the clear: use SASL_SSL or a SCRAM mechanism, or set allow_clear_password to true"
            )
        return self

    @model_validator(mode="after")
    def _tokens_have_a_source(self) -> Self:
        has_source = self.oauth.token_url is not None or self.oauth.token_file is not None
        if not self.uses_tokens:
            if has_source:
                raise ValueError("oauth would not be used: set sasl_mechanism OAUTHBEARER, or leave it out")
            return self
        if not has_source:
            raise ValueError("sasl_mechanism OAUTHBEARER needs oauth.token_url or oauth.token_file")
        if self.sasl_username is not None or self.has_secret("sasl_password"):
            raise ValueError("sasl_mechanism OAUTHBEARER has tokens: leave sasl_username and sasl_password out")
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = [*self._modalities(), self.dead_letter_topic]
        names += [self.control_topic, self.matches_topic]
        names += [topic for topic in (self.changes_topic, self.watches_topic) if topic]
        if len(set(names)) != len(names) or len(self._modalities()) != len(Modality):
            raise ValueError(f"a topic has one modality, but a name is used twice in {names}")
        self._check_owners(set(names) - self._modalities().keys())
        for setting, topics in (("framed_topics", self.framed_topics), ("envelopes", self.envelopes)):
            if unknown := sorted(topic for topic in topics if self.modality_of(topic) is None):
                raise ValueError(f"{setting} names {', '.join(unknown)}, which is no topic of media")
        return self

    def _check_owners(self, own_topics: Set[str]) -> None:
        """Refuses owners of Penstock's own topics, and owners without a modality."""
        pattern = pattern_of(self.tenants)
        owned = self.tenants if isinstance(self.tenants, dict) else {}
        if isinstance(self.tenants, dict) and not owned:
            raise ValueError("tenants is a map without topics, so nothing would be ingested")
        for topic in sorted(own_topics):
            if topic in owned or (pattern is not None and pattern.owner_of(topic) is not None):
                raise ValueError(f"tenants gives {topic} to a tenant, which is a topic of Penstock's own")
        for topic, owner in owned.items():
            if owner.modality is None and topic not in self._modalities():
                raise ValueError(
                    f'tenants does not say what {topic} carries: write {{tenant = "{owner.tenant}", modality = "text"}}'
                )


def _given(settings: Mapping[str, object]) -> str:
    """Returns the names of those that are set."""
    return ", ".join(name for name, value in settings.items() if value is not None)
