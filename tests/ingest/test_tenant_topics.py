"""Ingest refuses topics without an owner where callers are identified, and warns of shared ones."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import pytest

from penstock.config import Settings, load_settings
from penstock.config.topic_owners import TopicOwner
from penstock.embedded.supervisor import with_defaults_of_up
from penstock.errors import ConfigError
from penstock.ingest import tenant_topics
from penstock.ingest.background import _canary_topics
from penstock.ingest.tenant_topics import TenantTopics, check_tenants
from penstock.records import Modality

PATTERN = "media.{tenant}.{modality}"


def settings_of(mode: str, tenants: Any) -> Settings:
    return load_settings(auth={"mode": mode}, kafka={"tenants": tenants})


def test_with_identified_callers_the_owners_of_topics_have_to_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"auth\.mode is keys, but kafka\.tenants"):
        check_tenants(settings_of("keys", None))
    check_tenants(settings_of("none", None))
    check_tenants(with_defaults_of_up(settings_of("keys", None)))


def test_the_header_mode_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for tenants in (None, PATTERN, {"media.text": "acme"}):
            check_tenants(settings_of("none", tenants))
        assert caplog.messages == []
        check_tenants(settings_of("keys", "header"))
    assert ["every client that may write" in message for message in caplog.messages] == [True]


class Looks:
    """The topics that a broker has, and the times at which they were looked up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tenants: Any = PATTERN) -> None:
        self.now_s = 0.0
        self.tenants: set[str] = set()
        self.at_s: list[float] = []
        monkeypatch.setattr(tenant_topics, "with_topics", self._with_topics)
        self.topics = TenantTopics(settings_of("none", tenants), lambda: self.now_s)

    def _with_topics(self, settings: Settings, create_for: Collection[str] = ()) -> Settings:
        self.at_s.append(self.now_s)
        owners = {f"media.{tenant}.text": TopicOwner(tenant=tenant, modality=Modality.TEXT) for tenant in self.tenants}
        return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"tenants": owners})})

    def taken_up(self, seconds: int) -> list[tuple[float, int]]:
        """Returns when topics were taken up, and how many, with a look each second."""
        taken: list[tuple[float, int]] = []
        for _ in range(seconds):
            self.now_s += 1
            if (settings := self.topics.later()) is not None:
                taken.append((self.now_s, len(settings.kafka.topics())))
        return taken


def test_new_topics_are_looked_for_at_intervals_and_only_where_a_pattern_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    looks.tenants = {"acme"}
    looks.topics.first()
    assert looks.taken_up(100) == []
    assert looks.at_s == [0, 30, 60, 90]
    looks.tenants.add("other")
    assert looks.taken_up(100) == [(125, 2)]
    assert looks.at_s[4:] == [120, 125, 155, 185]
    fixed = Looks(monkeypatch, "header")
    assert (fixed.taken_up(100), fixed.at_s) == ([], [])


def test_topics_that_are_created_one_after_another_are_taken_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    looks.topics.first()
    taken = []
    for number in range(40):
        looks.tenants.add(f"tenant-{number}")
        taken += looks.taken_up(1)
    taken += looks.taken_up(60)
    assert taken == [(45, 40)]


def test_topics_are_taken_up_after_a_minute_though_more_are_being_created(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    looks.topics.first()
    taken = []
    for number in range(200):
        looks.tenants.add(f"tenant-{number}")
        taken += looks.taken_up(1)
    assert taken == [(90, 90), (180, 180)]


def test_canaries_go_to_topics_of_their_tenant_or_nowhere() -> None:
    assert set(_canary_topics(settings_of("none", None)).values()) == {"media.text", "media.image"}
    assert _canary_topics(settings_of("none", {"media.text": "acme"})) == {}
    own = {"media.text": "acme", "c": {"tenant": "penstock-canary", "modality": "text"}}
    assert list(_canary_topics(settings_of("none", own)).values()) == ["c"]
