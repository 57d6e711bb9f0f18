"""Planes that others could reach do not start while no request needs credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.main import main


@pytest.fixture
def environment(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Returns the environment of a plane whose services nothing has to reach."""
    for name, value in {
        "DATA_DIR": str(no_settings),
        "PROFILE": "null:32",
        "STORE__URI": "http://127.0.0.1:1",
        "STORE__TIMEOUT_S": "0.2",
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", value)
    return monkeypatch


@pytest.mark.parametrize(
    ("command", "setting"), [("serve", "query.host"), ("serve", "metrics.host"), ("ingest", "metrics.host")]
)
def test_a_plane_that_others_reach_does_not_start_without_credentials(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, setting: str
) -> None:
    environment.setenv("PENSTOCK_" + setting.upper().replace(".", "__"), "0.0.0.0")
    assert main([command]) == 2
    shown = capsys.readouterr().err.strip()
    assert shown.startswith(f"penstock: {setting} is 0.0.0.0, and auth.mode is none")
    assert "\n" not in shown


def test_a_plane_with_keys_does_not_start_without_their_file(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PENSTOCK_AUTH__MODE", "keys")
    assert main(["serve"]) == 2
    assert "penstock keys create" in capsys.readouterr().err


@pytest.mark.parametrize("auth", ["ALLOW_ANONYMOUS=true", "MODE=keys"])
def test_it_gets_as_far_as_the_store_where_that_is_meant(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], auth: str
) -> None:
    name, value = auth.split("=")
    environment.setenv(f"PENSTOCK_AUTH__{name}", value)
    environment.setenv("PENSTOCK_QUERY__HOST", "0.0.0.0")
    assert main(["keys", "create", "--tenant", "acme"]) == 0
    assert main(["serve"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err
