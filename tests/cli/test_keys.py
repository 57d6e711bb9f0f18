"""`penstock keys`, from the command line to what a request may do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.auth import KeyFile, Permission, Principal
from penstock.auth.key_changes import KeyGrant, create_key
from penstock.auth.keys import read_keys
from penstock.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path))
    return tmp_path


def created(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Returns the text of a key that the command printed, which is all of its output."""
    assert main(["keys", "create", *options]) == 0
    return capsys.readouterr().out.strip()


def caller(folder: Path, text: str) -> Principal | None:
    """Returns the principal of a key."""
    return KeyFile(folder / "keys.json").principal(text)


def test_a_created_key_is_a_reader_of_its_tenant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = caller(folder, created(capsys, "--tenant", "acme"))
    assert reader is not None
    assert (reader.tenants, reader.labels) == ({"acme"}, {"tenant"})
    assert reader.permissions == {Permission.SEARCH, Permission.ASK, Permission.FEEDBACK, Permission.MEDIA}


def test_options_say_what_a_key_permits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["ci", "--tenant", "acme", "--tenant", "umbrella", "--permission", "status", "--label", "hr"]
    other = caller(folder, created(capsys, *options))
    assert other is not None
    assert (other.subject, other.tenants, other.labels) == ("key:ci", {"acme", "umbrella"}, {"hr"})
    assert other.permissions == {Permission.STATUS}
    operator = caller(folder, created(capsys, "--tenant", "*", "--label", "*", "--permission", "admin"))
    assert operator is not None
    assert operator.reads_all


def test_a_revoked_key_is_refused_and_its_id_is_not_used_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = created(capsys, "ci", "--tenant", "acme")
    assert main(["keys", "revoke", "ci"]) == 0
    assert main(["keys", "revoke", "ci"]) == 0
    assert caller(folder, text) is None
    assert main(["keys", "create", "ci", "--tenant", "acme"]) == 2
    assert main(["keys", "revoke", "none"]) == 2


def test_a_list_shows_the_states_and_no_hash(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = created(capsys, "a", "--tenant", "acme", "--expires", "90d")
    created(capsys, "b", "--tenant", "acme", "--starts", "2h", "--expires", "2099-01-01T00:00:00Z")
    created(capsys, "c", "--tenant", "acme")
    assert main(["keys", "revoke", "c"]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--json"]) == 0
    shown = capsys.readouterr().out
    rows = {row["id"]: row for row in json.loads(shown)}
    assert {name: row["state"] for name, row in rows.items()} == {"a": "valid", "b": "not yet valid", "c": "revoked"}
    assert datetime.fromisoformat(rows["a"]["expires"]) - datetime.now(UTC) > timedelta(days=89)
    hashes = [key.sha256 for key in read_keys(folder / "keys.json")]
    assert not any(secret in shown for secret in (*hashes, text))
    assert main(["keys", "list"]) == 0
    assert "not yet valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--tenant", "acme", "--expires", "0d"],
        ["--tenant", "acme", "--expires", "soon"],
        ["--tenant", "acme", "--expires", "2099-01-01"],
        ["--tenant", "acme", "--starts", "2d", "--expires", "1d"],
        ["--tenant", "acme", "--permission", "everything"],
        ["--tenant", "acme", "--label", "two words"],
        ["--tenant", " "],
        ["Under_Score", "--tenant", "acme"],
        [],
    ],
)
def test_a_key_that_makes_no_sense_is_refused_and_nothing_is_written(folder: Path, options: list[str]) -> None:
    assert main(["keys", "create", *options]) == 2
    assert not (folder / "keys.json").exists()


def test_keys_that_are_created_concurrently_are_all_kept(folder: Path) -> None:
    grant = KeyGrant(["acme"], [Permission.SEARCH], ["tenant"])
    with ThreadPoolExecutor(8) as threads:
        texts = list(
            threads.map(lambda _: create_key(folder / "keys.json", grant, now=datetime.now(UTC))[0], range(40))
        )
    keys = KeyFile(folder / "keys.json")
    assert all(keys.principal(text) is not None for text in texts)


def test_a_command_says_while_no_request_needs_a_key(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["keys", "create", "--tenant", "acme"]) == 0
    assert "auth.mode is none" in capsys.readouterr().err
    monkeypatch.setenv("PENSTOCK_AUTH__MODE", "keys")
    assert main(["keys", "create", "--tenant", "acme"]) == 0
    assert "auth.mode" not in capsys.readouterr().err
