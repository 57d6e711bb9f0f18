"""The topics of tenants that a pattern names are looked up on a real broker."""

from __future__ import annotations

import uuid

import pytest

from penstock.broker.tenant_topics import with_topics
from penstock.broker.topics import ensure_media_topics, ensure_topics
from penstock.config import KafkaSettings, Settings, load_settings
from penstock.records import Modality


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> Settings:
    kafka = kafka_settings.model_dump() | {"tenants": f"m{uuid.uuid4().hex[:6]}.{{tenant}}.{{modality}}"}
    return load_settings(tenant="acme", kafka=kafka, ingest={"modalities": ["text", "image"]})


@pytest.mark.services
def test_topics_of_new_tenants_are_found_and_those_of_the_own_are_created(settings: Settings) -> None:
    kafka = settings.kafka
    first = with_topics(settings, create_for=["acme"]).kafka
    names = {kafka.topic_of(modality, "acme"): modality for modality in (Modality.TEXT, Modality.IMAGE)}
    assert dict(first.topics()) == names
    assert ensure_topics(first, settings.ingest.modalities).created == (kafka.dead_letter_topic,)
    new = kafka.topic_of(Modality.TEXT, "globex")
    ensure_media_topics(kafka, [new, f"{new}.other", kafka.topic_of(Modality.AUDIO, "globex")])
    later = with_topics(settings).kafka
    assert set(later.topics()) == {*names, new, kafka.topic_of(Modality.AUDIO, "globex")}
    assert later.tenant_of(new) == "globex"
    assert set(later.topics_of(settings.ingest.modalities)) == {*names, new}


def test_without_a_pattern_no_broker_is_asked() -> None:
    for tenants in (None, "header", {"media.text": "acme"}):
        settings = load_settings(kafka={"bootstrap_servers": "127.0.0.1:1", "tenants": tenants})
        assert with_topics(settings, create_for=["acme"]) is settings
