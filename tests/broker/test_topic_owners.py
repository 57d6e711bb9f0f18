"""Topics belong to tenants, and an event for another one is forbidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.broker.base import Message
from penstock.broker.record_parser import RecordParser
from penstock.broker.wire import encode_event
from penstock.config import load_settings
from penstock.errors import ConfigError, Reason
from penstock.records import ClaimCheck, Event, Inline, Modality, Position, Record, Rejected
from tests.replays import KEYS

MAP = {"media.text": "acme", "globex.notes": {"tenant": "globex", "modality": "text"}}
FIXED = RecordParser.of(load_settings(kafka={"tenants": MAP}), KEYS)
HEADER = RecordParser.of(load_settings(kafka={"tenants": "header"}), KEYS)


def delivered(message: Message) -> Record:
    return Record(Position(message.topic, 0, 5), message.key, message.value, message.headers, 1)


def sent(topic: str, tenant: str | None, payload: Inline | ClaimCheck | None, *, structured: bool = False) -> Record:
    return delivered(
        encode_event(topic=topic, key="k", payload=payload, source="/t", tenant=tenant, structured=structured)
    )


def outcome(parser: RecordParser, record: Record) -> str | Reason:
    parsed = parser(record)
    return parsed.reason if isinstance(parsed, Rejected) else parsed.asset.tenant


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("payload", [Inline(b"x"), ClaimCheck("https://a.example/x"), None])
def test_no_event_is_for_another_tenant_than_that_of_its_topic(
    payload: Inline | ClaimCheck | None, structured: bool
) -> None:
    """A producer of tenant-a must neither write nor delete for tenant-b."""
    for topic, owner, other in (("media.text", "acme", "globex"), ("globex.notes", "globex", "acme")):
        assert outcome(FIXED, sent(topic, None, payload, structured=structured)) == owner
        assert outcome(FIXED, sent(topic, owner, payload, structured=structured)) == owner
        assert outcome(FIXED, sent(topic, other, payload, structured=structured)) is Reason.FORBIDDEN


def test_the_last_of_two_tenants_in_the_headers_counts() -> None:
    record = sent("media.text", "acme", Inline(b"x"))
    twice = replace(record, headers=(*record.headers, ("CE_Tenant", b"globex")))
    assert outcome(FIXED, twice) is Reason.FORBIDDEN


def test_bare_media_belong_to_the_owner_of_their_topic() -> None:
    assert outcome(FIXED, delivered(Message("globex.notes", b"k", b"words"))) == "globex"
    assert outcome(HEADER, delivered(Message("media.text", b"k", b"words"))) == "default"


def test_in_header_mode_each_event_names_its_tenant() -> None:
    assert outcome(HEADER, sent("media.text", "globex", None)) == "globex"


def test_a_forbidden_event_has_a_detail_that_names_both_tenants() -> None:
    rejected = FIXED(sent("media.text", "globex", None))
    assert isinstance(rejected, Rejected)
    assert (rejected.step, rejected.reason) == ("receive", Reason.FORBIDDEN)
    assert "globex" in rejected.detail
    assert "acme" in rejected.detail


def test_a_map_names_the_modality_of_each_topic() -> None:
    kafka = load_settings(kafka={"tenants": MAP}).kafka
    assert dict(kafka.topics()) == {"media.text": Modality.TEXT, "globex.notes": Modality.TEXT}
    assert kafka.topic_of(Modality.TEXT, "globex") == "globex.notes"
    with pytest.raises(ConfigError, match="globex"):
        kafka.topic_of(Modality.IMAGE, "globex")


def test_a_pattern_names_the_topics_of_every_tenant() -> None:
    kafka = load_settings(kafka={"tenants": "media.{tenant}.{modality}"}).kafka
    assert kafka.topic_of(Modality.AUDIO, "acme") == "media.acme.audio"
    assert (kafka.tenant_of("media.a.b.text"), kafka.modality_of("media.a.b.text")) == ("a.b", Modality.TEXT)
    for foreign in ("media.text", "media..text", "media.acme.texts", "xmedia.acme.text", "media.acme.text\n"):
        assert (kafka.tenant_of(foreign), kafka.modality_of(foreign)) == (None, None)
    with pytest.raises(ConfigError, match="looked up"):
        kafka.topics()


@pytest.mark.parametrize(
    ("tenants", "named"),
    [
        ("media.text", "neither header nor a pattern"),
        ("media.{tenant}.text", "neither header nor a pattern"),
        ("{tenant}{modality}", "something between"),
        ({}, "without topics"),
        ({"media.text": "a tenant"}, "64 letters"),
        ({"notes": "acme"}, "does not say what notes carries"),
        ({"media.dlq": {"tenant": "acme", "modality": "text"}}, "Penstock's own"),
        ("media.{tenant}.{modality}", "Penstock's own"),
    ],
)
def test_what_cannot_be_meant_is_refused(tenants: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(kafka={"tenants": tenants, "changes_topic": "media.changes.text"})


def test_events_of_one_key_in_topics_of_two_tenants_are_two_assets() -> None:
    acme, globex = FIXED(sent("media.text", None, None)), FIXED(sent("globex.notes", None, None))
    assert isinstance(acme, Event)
    assert isinstance(globex, Event)
    assert acme.asset.id != globex.asset.id
