"""The API key that `penstock up` makes for its user."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.auth import ApiKey, Permission, open_authenticator
from penstock.auth.key_changes import change_keys
from penstock.auth.keys import read_keys, write_keys
from penstock.cli import main as cli
from penstock.cli.scrape import metrics_url, scrape
from penstock.config import Settings, load_settings, local_key_file, read_endpoints
from penstock.embedded.local_key import KEY_ID, with_local_key
from penstock.errors import UnauthenticatedError
from penstock.observability.metrics import CANARIES
from tests.embedded.test_supervisor import Up
from tests.embedded.test_supervisor import _wait as wait_until


@pytest.fixture
def keyed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    monkeypatch.setenv("PENSTOCK_AUTH__MODE", "keys")
    monkeypatch.setenv("PENSTOCK_CANARY__INTERVAL_S", "1")
    started = Up(tmp_path / "data")
    try:
        yield started
    finally:
        started.end()


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_commands_and_canaries_of_an_up_with_keys_need_no_setting(
    keyed_up: Up, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed_up.wait_ready()
    monkeypatch.delenv("PENSTOCK_AUTH__MODE")
    endpoints = read_endpoints(keyed_up.data_dir)
    assert endpoints is not None
    assert httpx.post(f"{endpoints.query_url}/v1/search", json={"text": "a"}).status_code == 401
    note = tmp_path / "note.txt"
    note.write_text("A heron stands in the reeds.")
    run = ["--data-dir", str(keyed_up.data_dir), "--profile", "null:8"]
    assert cli.main([*run, "produce", str(note)]) == 0
    wait_until(
        lambda: cli.main([*run, "search", "a heron"]) == 0 and "reeds" in capsys.readouterr().out, 60.0, keyed_up.output
    )
    assert cli.main([*run, "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["search"]["ready"]
    assert cli.main([*run, "ask", "where is the heron?", "--no-stream", "--json"]) in (0, 3)
    wait_until(lambda: found_canaries(keyed_up) > 0, 60.0, keyed_up.output)


def found_canaries(up: Up) -> float:
    """Returns the number of canaries that the ingest plane's driver found by searches."""
    url = metrics_url(load_settings(data_dir=up.data_dir))
    return scrape(url).by(CANARIES, "result").get("found", 0)


def settings(folder: Path, **changes: Any) -> Settings:
    return load_settings(data_dir=folder, auth={"mode": "keys"}, **changes)


def test_the_key_is_made_once_and_may_do_everything(tmp_path: Path) -> None:
    first = with_local_key(settings(tmp_path))
    key_file = local_key_file(tmp_path)
    assert first.api_key_file == key_file
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    text = key_file.read_text()
    with_local_key(settings(tmp_path))
    assert key_file.read_text() == text
    principal = open_authenticator(settings(tmp_path)).authenticate(f"Bearer {text.strip()}")
    assert (principal.tenants, principal.labels, principal.may(Permission.PURGE)) == (None, None, True)
    assert text.strip() not in settings(tmp_path).keys_file.read_text()


def test_other_keys_stay_and_an_unknown_one_is_replaced(tmp_path: Path) -> None:
    with_local_key(settings(tmp_path))
    old = local_key_file(tmp_path).read_text()
    (local,) = read_keys(settings(tmp_path).keys_file)
    other = local.model_copy(update={"id": "ci", "sha256": "0" * 64})
    write_keys(settings(tmp_path).keys_file, (other,))
    with_local_key(settings(tmp_path))
    assert [key.id for key in read_keys(settings(tmp_path).keys_file)] == ["ci", KEY_ID]
    assert local_key_file(tmp_path).read_text() != old


def test_keys_that_another_process_changes_meanwhile_are_kept(tmp_path: Path) -> None:
    with_local_key(settings(tmp_path / "other"))
    (other,) = read_keys(settings(tmp_path / "other").keys_file)
    start = threading.Thread(target=with_local_key, args=(settings(tmp_path),))

    def changed(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        start.start()
        start.join(0.3)
        assert start.is_alive()  # it waits until this change is made
        return (*keys, other.model_copy(update={"id": "ci"}))

    change_keys(settings(tmp_path).keys_file, changed, may_create=True)
    start.join()
    assert [key.id for key in read_keys(settings(tmp_path).keys_file)] == ["ci", KEY_ID]


def test_a_revoked_key_is_not_made_anew(tmp_path: Path) -> None:
    with_local_key(settings(tmp_path))
    (local,) = read_keys(settings(tmp_path).keys_file)
    write_keys(settings(tmp_path).keys_file, (local.model_copy(update={"revoked": datetime.now(UTC)}),))
    with_local_key(settings(tmp_path))
    with pytest.raises(UnauthenticatedError):
        open_authenticator(settings(tmp_path)).authenticate(f"Bearer {local_key_file(tmp_path).read_text().strip()}")


@pytest.mark.parametrize("changes", [{"auth": {"mode": "none"}}, {"api_key": "chosen"}])
def test_none_is_made_where_none_is_needed(tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = load_settings(**{"data_dir": tmp_path, "auth": {"mode": "keys"}, **changes})
    assert with_local_key(chosen) == chosen
    assert not local_key_file(tmp_path).exists()


def test_a_keys_file_of_others_is_left_alone(tmp_path: Path) -> None:
    chosen = load_settings(data_dir=tmp_path, auth={"mode": "keys", "keys_file": tmp_path / "shared.json"})
    assert with_local_key(chosen) == chosen
    assert not (tmp_path / "shared.json").exists()
