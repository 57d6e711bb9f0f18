"""Checks that secrets are read from files, and stay out of messages, pickles and the environment."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from penstock.config import (
    GenerateSettings,
    Settings,
    StoreSettings,
    explain,
    keep_secrets_in_files,
    load_settings,
    to_environment,
    without_secrets,
)
from penstock.config.secrets import secret_names
from penstock.errors import ConfigError

SECRETS = list(secret_names(Settings))


def _section(model: BaseModel, path: tuple[str, ...]) -> BaseModel:
    for name in path[:-1]:
        model = getattr(model, name)
    return model


def _all_secret() -> Settings:
    """Returns settings in which every secret is set, each to its own dotted name."""
    settings = Settings.model_construct(**dict(load_settings()))
    for path in SECRETS:
        _put(settings, path, SecretStr(f"hunter2 {'.'.join(path)}"))
    return settings


def _put(model: BaseModel, path: tuple[str, ...], value: SecretStr) -> None:
    if len(path) == 1:
        model.__dict__[path[0]] = value
        return
    below = getattr(model, path[0]).model_copy()
    _put(below, path[1:], value)
    model.__dict__[path[0]] = below


def test_every_secret_has_a_setting_for_its_file() -> None:
    assert ("store", "token") in SECRETS
    assert ("kafka", "sasl_password") in SECRETS
    for path in SECRETS:
        fields = type(_section(load_settings(), path)).model_fields
        assert f"{path[-1]}_file" in fields, f"{'.'.join(path)} has no …_file"


def test_a_changed_file_counts_from_the_next_use(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("root:one\n")
    store = StoreSettings(token_file=file)
    assert store.secret("token") == "root:one"
    file.write_text("root:two\n")
    assert store.secret("token") == "root:two"


def test_files_are_found_from_every_folder(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(store={"token_file": "token"}, kafka={"security_protocol": "SSL", "ssl_cafile": "ca.pem"})
    monkeypatch.chdir("/")
    assert settings.store.token_file == no_settings / "token"
    assert settings.kafka.ssl_cafile == no_settings / "ca.pem"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = StoreSettings(token_file=tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"token cannot be read from .*absent: No such file.*token_file"):
        store.secret("token")
    (tmp_path / "bytes").write_bytes(b"\xff\xfesecret")
    with pytest.raises(ConfigError, match="it is no text"):
        StoreSettings(token_file=tmp_path / "bytes").secret("token")


def test_a_secret_comes_from_one_place(no_settings: Path) -> None:
    with pytest.raises(ConfigError, match="token and token_file are both set"):
        load_settings(store={"token": "root:hunter2", "token_file": "token"})


def test_files_by_environment(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_settings / "pw").write_text("hunter2")
    monkeypatch.setenv("PENSTOCK_STORE__TOKEN_FILE", str(no_settings / "pw"))
    assert load_settings().store.secret("token") == "hunter2"


def test_settings_that_travel_have_files_in_place_of_secrets(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(no_settings / "data"))
    settings = _all_secret()
    with pytest.raises(ConfigError, match="would leave this process"):
        pickle.dumps(settings)
    kept = keep_secrets_in_files(settings, "ingest")
    assert b"hunter2" not in pickle.dumps(kept)
    assert "hunter2" not in str(to_environment(settings))
    there = pickle.loads(pickle.dumps(kept))
    for path in SECRETS:
        assert _section(there, path).secret(path[-1]) == f"hunter2 {'.'.join(path)}"  # type: ignore[attr-defined]
    folder = no_settings / "data" / "secrets" / "ingest"
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == len(SECRETS)


def test_planes_on_one_data_folder_keep_the_secrets_of_their_own_users(tmp_path: Path, no_settings: Path) -> None:
    kept = {}
    for plane in ("ingest", "serve"):
        given = load_settings(data_dir=tmp_path, store={"token": f"{plane}:hunter2"}, replay={"key": f"key of {plane}"})
        kept[plane] = keep_secrets_in_files(given, plane)
        to_environment(given)
    for plane, settings in kept.items():
        assert settings.store.secret("token") == f"{plane}:hunter2"
        assert settings.replay.secret("key") == f"key of {plane}"
        assert keep_secrets_in_files(settings, "other") == settings  # as of a child of this process


def test_a_process_that_starts_others_removes_secrets_from_its_environment(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(no_settings / "data"))
    monkeypatch.setenv("PENSTOCK_STORE__TOKEN", "root:hunter2")
    monkeypatch.setenv("penstock_generate", '{"key": "hunter2"}')
    monkeypatch.setenv("PENSTOCK_TENANT", "acme")
    kept = keep_secrets_in_files(load_settings(), "ingest")
    assert not [name for name, value in os.environ.items() if "hunter2" in value]
    assert os.environ["PENSTOCK_TENANT"] == "acme"
    assert (kept.store.secret("token"), kept.generate.secret("key")) == ("root:hunter2", "hunter2")


def test_workers_that_parse_media_get_no_secret_and_no_path_of_one(tmp_path: Path, no_settings: Path) -> None:
    given = load_settings(data_dir=tmp_path, store={"token": "t"}, tracing={"headers": "a=b"})
    settings = keep_secrets_in_files(given, "ingest")
    bare = without_secrets(settings, keep=("tracing",))
    assert bare.tracing.secret("headers") == "a=b"
    assert bare.store == settings.store.model_copy(update={"token": None, "token_file": None})
    every = without_secrets(_all_secret())
    pickle.dumps(every)
    assert not any(_section(every, path).has_secret(path[-1]) for path in SECRETS)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "overrides",
    [
        {"store": {"token": 20_481_024}},
        {"store": {"tokn": "20481024"}},
        {"store": {"token": "20481024", "num_shards": 0}},
        {"store": {"uri": "https://root:20481024@milvus:19530"}},
        {"assets": {"url": "s3://KEY:20481024@bucket/media"}},
        {"generate": {"url": "https://me:20481024@models/v1"}},
        {"tracing": {"endpoint": "https://me:20481024@collector"}},
        {"kafka": {"text_topic": "media.image", "sasl_password": "20481024"}},
        {"query": {"port": "redis://:20481024@node"}},
    ],
)
def test_no_message_of_settings_shows_a_secret(overrides: dict[str, object], no_settings: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(**overrides)
    assert "20481024" not in str(refused.value)
    assert "20481024" not in str(refused.value.__cause__)


def test_a_url_with_a_password_is_shown_without_it(no_settings: Path) -> None:
    settings = load_settings(query={"url": "https://me:hunter2@penstock:8600/"})
    values = {setting.name: setting.value for setting in explain(settings, {})}
    assert values["query.url"] == "https://***@penstock:8600/"


def test_errors_of_a_section_alone_hide_what_they_were_given() -> None:
    with pytest.raises(ValidationError) as refused:
        GenerateSettings.model_validate({"kye": "hunter2"})
    assert "hunter2" not in str(refused.value)
