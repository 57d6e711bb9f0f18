"""Checks `penstock config`: which source wins, what is shown, and that docs/settings.md matches the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli import main as cli

REPOSITORY = Path(__file__).parents[2]


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    assert cli.main([*arguments, "config", "--json"]) == 0
    settings: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)
    return settings


def test_command_line_wins_over_environment_over_file_over_default(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (no_settings / "penstock.toml").write_text(
        'profile = "gpu"\ntenant = "file"\nprecision = "fp32"\n[ingest]\nlanes = 3\n'
    )
    monkeypatch.setenv("PENSTOCK_PROFILE", "small")
    monkeypatch.setenv("PENSTOCK_TENANT", "environment")
    monkeypatch.setenv("PENSTOCK_QUERY", '{"limit": 7}')
    settings = explained(capsys, "--profile", "reference")

    def value_and_source(name: str) -> tuple[object, str]:
        return settings[name]["value"], settings[name]["source"]

    assert value_and_source("profile") == ("reference", "command line")
    assert value_and_source("tenant") == ("environment", "environment: PENSTOCK_TENANT")
    assert value_and_source("query.limit") == (7, "environment: PENSTOCK_QUERY")
    assert value_and_source("precision") == ("fp32", "file: penstock.toml")
    assert value_and_source("ingest.lanes") == (3, "file: penstock.toml")
    assert settings["ingest.decoders"]["source"] == "default"


def test_the_named_file_is_read(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", "")  # so that the effect of --config is undone after the test
    (no_settings / "other.toml").write_text('tenant = "other"\n')
    assert explained(capsys, "--config", str(no_settings / "other.toml"))["tenant"]["value"] == "other"


def test_secrets_are_masked(
    no_settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE__TOKEN", "root:hunter2")
    for arguments in (["config"], ["config", "--json"], ["config", "--markdown"]):
        assert cli.main(arguments) == 0
        assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PENSTOCK_QUERY__PORT", "http", ["query.port", "'http'"]),
        ("PENSTOCK_QUERY", "not json", ["query", "JSON"]),
        ("PENSTOCK_KAFKA__TEXT_TOPIC", "media.image", ["a topic has one modality"]),
    ],
)
def test_an_invalid_setting_is_named_in_one_line(
    *,
    name: str,
    value: str,
    expected: list[str],
    no_settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert cli.main(["config"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for text in expected:
        assert text in line


def test_the_documentation_lists_every_setting(no_settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--markdown"]) == 0
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page, "regenerate it: penstock config --markdown > docs/settings.md"
