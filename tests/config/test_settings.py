"""Checks that settings reach child processes, and that invalid combinations are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        fetch={"allowed_roots": [no_settings]},
        query={"port": 0},
    )
    (no_settings / "penstock.toml").write_text('tenant = "b"\n[query]\nport = 1\n')
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().store.token == settings.store.token


def test_each_modality_has_a_topic_of_its_own(no_settings: Path) -> None:
    kafka = load_settings(kafka={"image_topic": "photos"}).kafka
    assert kafka.topic_of(Modality.IMAGE) == "photos"
    assert dict(kafka.topics()) == {kafka.topic_of(modality): modality for modality in Modality}


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("kafka", {"text_topic": "media.dlq"}, "a topic has one modality"),
        ("text", {"overlap_tokens": 101, "max_passage_tokens": 200}, "at most half"),
        ("ingest", {"decoders": 3, "max_decoders": 2}, "max_decoders is 2, less than decoders"),
        ("ingest", {"encoders": 3, "max_encoders": 2}, "max_encoders is 2, less than encoders"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    section: str, values: dict[str, object], message: str, no_settings: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(**{section: values})


def test_every_setting_has_a_description() -> None:
    sections = [field.annotation for field in Settings.model_fields.values() if field.description is None]
    assert all(hasattr(section, "model_fields") for section in sections)
    missing = [
        f"{section.__name__}.{name}"
        for section in sections
        if section is not None
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_the_setting_of_a_profile_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(profile="mine.toml").profile == str(tmp_path / "mine.toml")
    assert load_settings(profile="small").profile == "small"
    assert load_settings(profile="null:8").profile == "null:8"
