"""Makes the message of one item from its fields: chooses topic, key and tenant, and refuses what cannot be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from penstock.broker.base import Message
from penstock.broker.given_vectors import given_vector
from penstock.broker.wire import encode_event
from penstock.config import Settings
from penstock.config.topic_owners import HEADER
from penstock.errors import UsageError
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.media.types.documents import ENCRYPTED
from penstock.media.types.unsupported import unsupported_detail
from penstock.produce.items import JsonObject, ProduceOptions
from penstock.records import ClaimCheck, GivenVector, Inline, Modality

SOURCE = "penstock/produce"
FIELDS = frozenset(
    {"key", "topic", "modality", "text", "path", "uri", "title", "attributes", "acl", "tenant", "time", "id", "vector"}
)
_TIMES_MS = range(-62_135_596_800_000, 253_402_300_800_000)  # those that RFC 3339 can write
# Headers, key and Kafka's own framing count towards a message's limit too; titles and attributes may take 64 KiB.
_MESSAGE_OVERHEAD_BYTES = 80 * 1024


class MessageComposer:
    """Makes messages of items that have the options and settings in common.

    Args:
        settings: topics, tenants and limits.
        options: what applies to all items.
        source: the producer, as CloudEvents name it.
    """

    def __init__(self, settings: Settings, options: ProduceOptions, *, source: str = SOURCE) -> None:
        self.settings = settings
        self.options = options
        self._source = source
        self.inline_limit = min(settings.kafka.max_message_bytes - _MESSAGE_OVERHEAD_BYTES, settings.fetch.max_bytes)

    # --- the parts ---------------------------------------------------------------------------------------------------

    def tenant_of(self, fields: JsonObject | None) -> str:
        """Returns the tenant of an event: that of its line, else of the option, else of the settings."""
        return (fields or {}).get("tenant") or self.options.tenant or self.settings.tenant

    def attributes_of(self, fields: JsonObject | None) -> JsonObject:
        """Returns the attributes of an item, with those of the options."""
        own = (fields or {}).get("attributes") or {}
        return {**own, **(self.options.attributes or {})}

    def topic_of_type(self, sniffed: Sniffed, tenant: str) -> str:
        """Returns the topic for media of a detected type. Raises UsageError if there is none."""
        if self.options.topic is not None:
            return self.options.topic
        if sniffed.modality is None or sniffed.mime == ENCRYPTED:
            raise UsageError(f"is {unsupported_detail(sniffed.mime)}")
        return self.topic_of(sniffed.modality, tenant)

    def topic_of(self, modality: Modality, tenant: str) -> str:
        """Returns the topic of a modality. Raises UsageError if it is not ingested."""
        if modality not in self.settings.ingest.modalities:
            known = ", ".join(self.settings.ingest.modalities)
            raise UsageError(f"is {modality}, which is not ingested; add it to ingest.modalities (now: {known})")
        return self.settings.kafka.topic_of(modality, tenant)

    def topic_of_fields(self, fields: JsonObject) -> str | None:
        """Returns the topic that an item or the options name; None: it has to be detected in the bytes."""
        if "modality" in fields:
            return self.topic_of(Modality(fields["modality"]), self.tenant_of(fields))
        topic: str | None = fields.get("topic", self.options.topic)
        if topic is not None:
            check_topic(topic, self.settings)
        return topic

    def check_address(self, uri: str, tenant: str) -> None:
        """Raises BadInputError if no rule of `fetch.allow` lets the tenant name an address."""
        from penstock.media.fetch_rules import FetchRules, parse_url

        FetchRules(self.settings.fetch).rule_of(parse_url(uri), tenant)

    # --- messages ----------------------------------------------------------------------------------------------------

    def message(self, fields: JsonObject) -> Message:
        """Returns the message of what `encode_event` takes, with the options' tenant and labels where it has none."""
        defaults = {"tenant": self.tenant_of(None), "acl": self.options.acl}
        return encode_event(source=self._source, **{**defaults, **fields})

    def of_bytes(self, data: bytes, *, key: str, fields: JsonObject, topic: str | None = None) -> Message:
        """Returns the message of media that are at hand. `fields` are those of `described`.

        Raises:
            UsageError: they are empty, too large for a message, or of a type that is not ingested.
            BadInputError: the event could not be read back.
        """
        if not data:
            raise UsageError("is empty")
        if len(data) > self.inline_limit:
            raise UsageError(
                f"has {len(data):,} bytes, more than fit a message ({self.inline_limit:,}): store it elsewhere and "
                "send its address (uri)"
            )
        sniffed = sniff(data, declared=fields.get("content_type"))
        topic = topic or self.topic_of_type(sniffed, self.tenant_of(fields))
        own = {"topic": topic, "key": key, "payload": Inline(data), "content_type": sniffed.mime}
        return self.message({**fields, **own})

    def of_address(self, uri: str, *, key: str, fields: JsonObject, topic: str | None) -> Message:
        """Returns the message of a claim check. Raises as `of_bytes` does."""
        if topic is None:
            raise UsageError(
                "has a uri but no modality or topic: add one, since a uri is not fetched to detect its type"
            )
        return self.message({**fields, "topic": topic, "key": key, "payload": ClaimCheck(uri)})

    def of_text(self, text: str, *, key: str | None, fields: JsonObject, topic: str | None) -> Message:
        """Returns the message of a text; without a key, its id or its hash is the key. Raises as `of_bytes` does."""
        data = text.encode()
        key = key or fields.get("event_id") or hashlib.sha256(data).hexdigest()
        topic = topic or self.topic_of(Modality.TEXT, self.tenant_of(fields))
        own = {"topic": topic, "key": key, "payload": Inline(data), "content_type": "text/plain"}
        return self.message({**fields, **own})

    def described(self, fields: JsonObject) -> JsonObject:
        """Returns the fields that describe an item, under the names of `encode_event`; absent ones are left out."""
        described = {
            "title": fields.get("title"),
            "tenant": fields.get("tenant"),
            "time_ms": time_ms(fields.get("time")),
            "event_id": fields.get("id"),
            "attributes": fields.get("attributes"),
            "acl": fields.get("acl"),
            "vectors": self._vectors(fields.get("vector")),
        }
        return {name: value for name, value in described.items() if value is not None}

    def _vectors(self, values: Any) -> tuple[GivenVector, ...] | None:
        if values is None:
            return None
        if self.options.vector_encoder is None:
            raise UsageError("has a vector, but not the fingerprint of its encoder: give it by --vector-encoder")
        return (given_vector(self.options.vector_encoder, values),)


def check_topic(topic: str, settings: Settings) -> None:
    """Raises `UsageError` if the topic belongs to no modality."""
    if settings.kafka.modality_of(topic) is None:
        raise UsageError(f"{topic!r} is not a media topic; use one of {_topics_shown(settings)}")


def _topics_shown(settings: Settings) -> str:
    tenants = settings.kafka.tenants
    return tenants if isinstance(tenants, str) and tenants != HEADER else ", ".join(settings.kafka.topics())


def check_fields(fields: JsonObject, *, known: frozenset[str] = FIELDS) -> None:
    """Raises UsageError for an item whose fields are unknown, or of the wrong type."""
    if unknown := sorted(fields.keys() - known):
        raise UsageError(f"has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    payloads = [name for name in ("text", "path", "uri", "data") if name in known]
    if len(fields.keys() & set(payloads)) != 1:
        raise UsageError(f"needs exactly one of {', '.join(payloads[:-1])} and {payloads[-1]}")
    for name in known - {"attributes", "acl", "time", "data", "vector"}:
        if not isinstance(fields.get(name, ""), str):
            raise UsageError(f"has a {name} that is not a string")
    if not isinstance(fields.get("attributes", {}), Mapping):
        raise UsageError("has attributes that are not a JSON object")
    if not isinstance(fields.get("acl", []), list):
        raise UsageError("has an acl that is not a list of labels")
    if fields.get("modality", Modality.TEXT) not in set(Modality):
        raise UsageError(f"has an unknown modality {fields['modality']!r}; known are {', '.join(Modality)}")


def time_ms(value: object) -> int | None:
    """Returns milliseconds since the epoch, from a time with an offset, RFC 3339, or a number of milliseconds."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in _TIMES_MS:
            raise UsageError(f"has a time outside of the years 1 to 9999: {value:,} milliseconds since 1970")
        return value
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as exc:
        raise UsageError(f"has a time that is neither RFC 3339 nor milliseconds: {value!r}") from exc
    if moment.tzinfo is None:
        raise UsageError(f"has a time without UTC offset: {value!r}")
    return round(moment.timestamp() * 1000)
