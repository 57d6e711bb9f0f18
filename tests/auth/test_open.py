"""The authenticator of the settings, and the addresses that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.auth import ANONYMOUS, check_exposure, open_authenticator
from penstock.auth.keys import new_key, write_keys
from penstock.config import Settings, load_settings
from penstock.errors import ConfigError, UnauthenticatedError
from tests.auth.test_keys import api_key


def settings(tmp_path: Path, **auth: object) -> Settings:
    """Returns settings with this section `auth`."""
    return load_settings(data_dir=tmp_path, auth=auth)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_mode_none_listens_on_loopback(tmp_path: Path, host: str) -> None:
    check_exposure(settings(tmp_path), "query.host", host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "penstock.example", ""])
def test_refuses_to_listen_to_others_without_auth(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"query\.host") as raised:
        check_exposure(settings(tmp_path), "query.host", host)
    assert "\n" not in str(raised.value)
    check_exposure(settings(tmp_path, allow_anonymous=True), "query.host", host)
    check_exposure(settings(tmp_path, mode="keys"), "query.host", host)


def test_keys_are_of_the_file_of_the_settings_or_of_the_data_folder(tmp_path: Path) -> None:
    text = new_key("ci")
    write_keys(tmp_path / "keys.json", (api_key(text),))
    assert open_authenticator(settings(tmp_path, mode="keys")).authenticate(f"Bearer {text}").key_id == "ci"
    write_keys(tmp_path / "other.json", ())
    other = open_authenticator(settings(tmp_path, mode="keys", keys_file=str(tmp_path / "other.json")))
    with pytest.raises(UnauthenticatedError):
        other.authenticate(f"Bearer {text}")
    assert open_authenticator(settings(tmp_path)).authenticate(None) is ANONYMOUS


def test_tokens_need_an_issuer_and_an_audience(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth\.oidc\.issuer and auth\.oidc\.audience"):
        settings(tmp_path, mode="oidc")
    with pytest.raises(ConfigError, match=r"auth\.oidc\.audience, by"):
        settings(tmp_path, mode="keys+oidc", oidc={"issuer": "https://id.example"})
    assert settings(tmp_path, mode="oidc", oidc={"issuer": "https://id.example", "audience": "penstock"})


def test_no_weak_signature_can_be_chosen(tmp_path: Path) -> None:
    for algorithm in ("HS256", "none"):
        with pytest.raises(ConfigError):
            settings(tmp_path, oidc={"algorithms": [algorithm]})
