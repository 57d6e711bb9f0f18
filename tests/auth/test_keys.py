"""API keys: their text, their file, and when they are valid."""

from __future__ import annotations

import json
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.auth import ANONYMOUS, ApiKey, Authenticator, KeyFile, Permission
from penstock.auth.keys import CHECK_EVERY_S, GRACE_S, KEY_PATTERN, key_hash, new_key, read_keys, write_keys
from penstock.errors import ConfigError, UnauthenticatedError, UnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def api_key(text: str, **changes: Any) -> ApiKey:
    """Returns a key of tenant acme that searches."""
    values: dict[str, Any] = {
        "id": text.split("_")[1],
        "sha256": key_hash(text),
        "tenants": ("acme",),
        "permissions": (Permission.SEARCH,),
        "created": NOW,
    }
    return ApiKey(**values | changes)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


def open_keys(path: Path, clock: Clock | None = None) -> KeyFile:
    """Returns the keys of a file while it is `NOW`."""
    return KeyFile(path, clock=clock or Clock(), wall_s=NOW.timestamp)


def test_a_key_has_256_random_bits_and_its_id() -> None:
    text = new_key("ci-1")
    parts = KEY_PATTERN.fullmatch(text)
    assert parts is not None
    assert parts[1] == "ci-1"
    assert len(parts[2]) == 43
    assert new_key("ci-1") != text


def test_the_file_keeps_hashes_for_its_owner_alone(tmp_path: Path) -> None:
    text, path = new_key("ci"), tmp_path / "conf" / "keys.json"
    write_keys(path, (api_key(text),))
    assert text.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == (api_key(text),)
    assert list(path.parent.iterdir()) == [path]


def test_a_key_proves_a_principal(tmp_path: Path) -> None:
    text, path = new_key("ci"), tmp_path / "keys.json"
    write_keys(path, (api_key(text, labels=("tenant", "hr")),))
    caller = open_keys(path).principal(text)
    assert caller is not None
    assert (caller.subject, caller.key_id, caller.tenants) == ("key:ci", "ci", {"acme"})
    assert (caller.permissions, caller.labels) == ({Permission.SEARCH}, {"tenant", "hr"})


def test_a_star_stands_for_all_tenants_and_all_labels(tmp_path: Path) -> None:
    text, path = new_key("ops"), tmp_path / "keys.json"
    write_keys(path, (api_key(text, tenants=("*",), labels=("*",)),))
    caller = open_keys(path).principal(text)
    assert caller is not None
    assert (caller.tenants, caller.labels) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked": NOW - timedelta(days=1)},
        {"revoked": NOW + timedelta(days=1)},
        {"expires": NOW},
        {"not_before": NOW + timedelta(seconds=1)},
        {"sha256": "0" * 64},
    ],
)
def test_a_key_that_is_not_valid_proves_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    text, path = new_key("ci"), tmp_path / "keys.json"
    write_keys(path, (api_key(text, **changes),))
    assert open_keys(path).principal(text) is None


def test_only_the_whole_text_of_a_key_is_valid(tmp_path: Path) -> None:
    text, path = new_key("ci"), tmp_path / "keys.json"
    write_keys(path, (api_key(text), api_key(new_key("other"))))
    keys = open_keys(path)
    assert keys.principal(text) is not None
    for wrong in (text[:-1], text + "A", text.upper(), text.replace("ci", "other"), new_key("ci"), "pk_ci_", ""):
        assert keys.principal(wrong) is None


def test_a_revocation_holds_with_the_next_check_of_the_file(tmp_path: Path) -> None:
    text, path, clock = new_key("ci"), tmp_path / "keys.json", Clock()
    write_keys(path, (api_key(text),))
    keys = open_keys(path, clock)
    write_keys(path, (api_key(text, revoked=NOW),))
    clock.s += CHECK_EVERY_S
    assert keys.principal(text) is None
    write_keys(path, (api_key(text),))
    clock.s += CHECK_EVERY_S
    assert keys.principal(text) is not None


@pytest.mark.parametrize("content", [None, "{", '{"keys": [{"id": "ci"}]}'])
def test_no_key_is_valid_once_the_file_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    text, path, clock = new_key("ci"), tmp_path / "keys.json", Clock()
    write_keys(path, (api_key(text),))
    keys = open_keys(path, clock)
    path.unlink()
    if content is not None:
        path.write_text(content)
    clock.s += CHECK_EVERY_S
    assert keys.principal(text) is not None
    clock.s += GRACE_S
    with pytest.raises(UnavailableError) as raised:
        keys.principal(text)
    assert str(path) not in str(raised.value)
    write_keys(path, (api_key(text),))
    clock.s += CHECK_EVERY_S
    assert keys.principal(text) is not None


def test_a_missing_or_invalid_file_is_refused_at_the_start_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigError, match="penstock keys create"):
        KeyFile(path)
    path.write_text(json.dumps({"keys": [{"id": "ci", "sha256": "hunter2"}]}))
    with pytest.raises(ConfigError, match=r"keys\.0\.sha256") as raised:
        KeyFile(path)
    assert "hunter2" not in str(raised.value)
    text = new_key("ci")
    write_keys(path, (api_key(text), api_key(text)))
    with pytest.raises(ConfigError, match="two keys of one id"):
        KeyFile(path)


def test_writing_follows_no_link_that_another_left(tmp_path: Path) -> None:
    path, target = tmp_path / "keys.json", tmp_path / "target"
    target.write_text("kept")
    path.with_name(f".keys.json.{os.getpid()}").symlink_to(target)
    with pytest.raises(OSError):
        write_keys(path, ())
    assert target.read_text() == "kept"


def test_without_keys_and_tokens_everybody_is_anonymous() -> None:
    assert Authenticator().authenticate(None) is ANONYMOUS
    assert Authenticator().authenticate("Bearer x") is ANONYMOUS


def test_bad_credentials_are_all_refused_in_the_same_words(tmp_path: Path) -> None:
    text, revoked, path = new_key("ci"), new_key("old"), tmp_path / "keys.json"
    write_keys(path, (api_key(text), api_key(revoked, revoked=NOW)))
    authenticator = Authenticator(open_keys(path))
    assert authenticator.authenticate(f"bearer  {text} ").key_id == "ci"
    messages = set()
    for wrong in (revoked, new_key("ci"), new_key("none"), "ey.J.0", "pk__"):
        with pytest.raises(UnauthenticatedError) as raised:
            authenticator.authenticate(f"Bearer {wrong}")
        assert raised.value.has_credentials
        messages.add(str(raised.value))
    assert len(messages) == 1


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Bearer", "Bearer "])
def test_a_request_without_credentials_learns_what_to_send(tmp_path: Path, header: str | None) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, ())
    with pytest.raises(UnauthenticatedError, match="Authorization: Bearer") as raised:
        Authenticator(open_keys(path)).authenticate(header)
    assert raised.value.has_credentials is (header is not None)


def test_a_key_is_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    text, path = new_key("ci"), tmp_path / "keys.json"
    write_keys(path, (api_key(text),))
    keys = open_keys(path)
    keys.principal(text)
    keys.principal(new_key("ci"))
    assert not re.search(r"pk_[a-z0-9-]+_", caplog.text)


class Tokens:
    """Takes one token."""

    def principal(self, token: str) -> Any:
        return ANONYMOUS if token == "good" else None

    def waits(self, token: str) -> bool:
        return token == "good"


def test_keys_and_tokens_are_told_apart_by_their_beginning(tmp_path: Path) -> None:
    text, path = new_key("ci"), tmp_path / "keys.json"
    write_keys(path, (api_key(text),))
    both = Authenticator(open_keys(path), Tokens())
    assert both.authenticate(f"Bearer {text}").key_id == "ci"
    assert both.authenticate("Bearer good") is ANONYMOUS
    assert both.waits("Bearer good")
    assert not both.waits("Bearer bad")
    assert not both.waits(f"Bearer {text}")
    assert not both.waits(None)
    with pytest.raises(UnauthenticatedError):
        Authenticator(None, Tokens()).authenticate(f"Bearer {text}")
