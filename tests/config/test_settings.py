"""Checks that settings reach child processes, and that invalid combinations are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from penstock.config import Settings, load_settings, to_environment
from penstock.errors import ConfigError
from penstock.records import Modality


def test_a_child_gets_equal_settings_from_its_environment_whatever_its_own_files_say(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(
        tenant="a",
        data_dir=no_settings,
        store={"token": "s3cret"},
        fetch={"allow": [{"tenants": ["*"], "scheme": "file", "prefix": str(no_settings)}]},
        query={"port": 0},
    )
    (no_settings / "penstock.toml").write_text('tenant = "b"\n[query]\nport = 1\n')
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    child = load_settings()
    assert child.store.secret("token") == "s3cret"
    store = child.store.model_copy(update={"token": settings.store.token, "token_file": None})
    assert child.model_copy(update={"store": store}) == settings


def test_each_modality_has_a_topic_of_its_own(no_settings: Path) -> None:
    kafka = load_settings(kafka={"image_topic": "photos"}).kafka
    assert kafka.topic_of(Modality.IMAGE) == "photos"
    assert dict(kafka.topics()) == {kafka.topic_of(modality): modality for modality in Modality}


_SASL = {"sasl_mechanism": "PLAIN", "sasl_username": "p", "sasl_password": "hunter2"}

_TOKENS = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
_CLIENT = {"token_url": "https://idp/token", "client_id": "p", "client_secret": "hunter2"}


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("kafka", {"text_topic": "media.dlq"}, "a topic has one modality"),
        ("text", {"overlap_tokens": 101, "max_passage_tokens": 200}, "at most half"),
        ("ingest", {"decoders": 3, "max_decoders": 2}, "max_decoders is 2, less than decoders"),
        ("ingest", {"encoders": 3, "max_encoders": 2}, "max_encoders is 2, less than encoders"),
        ("kafka", {"sasl_username": "p"}, "sasl_username would not be used with security_protocol PLAINTEXT"),
        ("kafka", _SASL | {"security_protocol": "SSL"}, "would not be used with security_protocol SSL"),
        ("kafka", _SASL | {"security_protocol": "SASL_PLAINTEXT"}, "send the password in the clear"),
        ("kafka", {"ssl_certfile": "client.pem"}, "ssl_certfile would not be used with security_protocol PLAINTEXT"),
        ("kafka", {"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "set ssl_certfile, too"),
        ("kafka", {"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "'PLAIN', 'SCRAM-SHA-256', 'SCRAM"),
        ("kafka", _TOKENS, "OAUTHBEARER needs oauth.token_url or oauth.token_file"),
        ("kafka", _TOKENS | {"oauth": {"token_file": "t"}, "sasl_username": "p"}, "leave sasl_username"),
        ("kafka", _TOKENS | {"oauth": {"token_file": "t"}, "security_protocol": "SASL_PLAINTEXT"}, "in the clear"),
        ("kafka", _SASL | {"security_protocol": "SASL_SSL", "oauth": {"token_file": "t"}}, "oauth would not be used"),
        ("kafka", {"oauth": {"token_url": "http://idp/token", "client_id": "p"}}, "use an https address"),
        ("kafka", {"oauth": {"token_url": "https://p:pw@idp/token"}}, "has a user or a password in it"),
        ("kafka", {"oauth": {"token_url": "https://idp/token"}}, "token_url needs client_id, and client_secret"),
        ("kafka", {"oauth": _CLIENT | {"token_file": "t"}}, "token_url and token_file are both set"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    section: str, values: dict[str, object], message: str, no_settings: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(**{section: values})


def test_a_message_about_credentials_shows_no_secret(no_settings: Path) -> None:
    with pytest.raises(ConfigError, match="would not be used") as refused:
        load_settings(kafka=_SASL | {"security_protocol": "SSL"})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"setting store\.token") as refused:
        load_settings(store={"token": 20_481_024})
    assert "20481024" not in str(refused.value)


def test_plain_without_tls_can_be_allowed_by_name(no_settings: Path) -> None:
    kafka = load_settings(kafka=_SASL | {"security_protocol": "SASL_PLAINTEXT", "allow_clear_password": True}).kafka
    assert kafka.uses_sasl
    assert not kafka.uses_tls
    scram = load_settings(kafka=_SASL | {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512"})
    assert scram.kafka.sasl_mechanism == "SCRAM-SHA-512"


def undescribed(section: type[BaseModel]) -> Iterator[str]:
    """Yields the settings of a section, and of those in it, that have no description."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from undescribed(field.annotation)
        elif not field.description:
            yield f"{section.__name__}.{name}"


def test_every_setting_has_a_description() -> None:
    assert list(undescribed(Settings)) == []


def test_the_setting_of_a_profile_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(profile="mine.toml").profile == str(tmp_path / "mine.toml")
    assert load_settings(profile="small").profile == "small"
    assert load_settings(profile="null:8").profile == "null:8"
