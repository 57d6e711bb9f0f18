"""Tests the line about a right that is missing: who lacks it, and the command that grants it."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.broker.rights import Right, denied_topic
from penstock.config import KafkaSettings

SASL = {"security_protocol": "SASL_SSL", "bootstrap_servers": "kafka:9093"}


@pytest.mark.parametrize(
    ("settings", "user"),
    [
        ({**SASL, "sasl_mechanism": "PLAIN", "sasl_username": "ingest", "sasl_password": "secret"}, "User:ingest"),
        ({**SASL, "sasl_mechanism": "OAUTHBEARER", "oauth": {"token_file": "/token"}}, "User:…"),
        ({"bootstrap_servers": "kafka:9092"}, "User:…"),
    ],
)
def test_a_missing_right_is_named_with_its_user_where_the_settings_know_it(settings: dict[str, Any], user: str) -> None:
    line = denied_topic(KafkaSettings.model_validate(settings), Right.WRITE, "media.acme.text")
    assert f"denies this client ({user}) the right Write on topic media.acme.text" in line
    assert line.endswith(f"--allow-principal {user} --operation Write --topic media.acme.text")
