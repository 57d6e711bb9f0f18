"""Settings on the command line: who wins, what is shown, and that the page of the documentation is the code's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.config import load_settings, to_environment

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without settings of anyone's."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    assert cli.main([*arguments, "config", "--json"]) == 0
    answer: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)
    return answer


def test_command_line_wins_over_environment_over_file_over_default(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (clean / "penstock.toml").write_text('profile = "gpu"\ntenant = "file"\nprecision = "fp32"\n[ingest]\nlanes = 3\n')
    monkeypatch.setenv("PENSTOCK_PROFILE", "small")
    monkeypatch.setenv("PENSTOCK_TENANT", "environment")
    monkeypatch.setenv("PENSTOCK_QUERY", '{"limit": 7}')
    found = shown(capsys, "--profile", "reference")
    assert (found["profile"]["value"], found["profile"]["source"]) == ("reference", "command line")
    assert (found["tenant"]["value"], found["tenant"]["source"]) == ("environment", "environment: PENSTOCK_TENANT")
    assert (found["query.limit"]["value"], found["query.limit"]["source"]) == (7, "environment: PENSTOCK_QUERY")
    assert (found["precision"]["value"], found["precision"]["source"]) == ("fp32", "file: penstock.toml")
    assert (found["ingest.lanes"]["value"], found["ingest.lanes"]["source"]) == (3, "file: penstock.toml")
    assert found["ingest.decoders"]["source"] == "default"


def test_the_named_file_is_read(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", "")  # so that what --config sets is undone after the test
    (clean / "other.toml").write_text('tenant = "other"\n')
    assert shown(capsys, "--config", str(clean / "other.toml"))["tenant"]["value"] == "other"


def test_secrets_are_masked(clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PENSTOCK_STORE__TOKEN", "root:hunter2")
    for arguments in (["config"], ["config", "--json"], ["config", "--markdown"]):
        assert cli.main(arguments) == 0
        assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PENSTOCK_QUERY__PORT", "http", ["query.port", "'http'"]),
        ("PENSTOCK_QUERY", "not json", ["query", "JSON"]),
        ("PENSTOCK_KAFKA__TEXT_TOPIC", "media.image", ["a topic is of one modality"]),
    ],
)
def test_a_bad_setting_is_named(
    *,
    name: str,
    value: str,
    words: list[str],
    clean: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert cli.main(["config"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for word in words:
        assert word in line


def test_settings_reach_a_child_by_its_environment_whatever_its_own_is(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(
        tenant="a", data_dir=clean, store={"token": "s3cret"}, fetch={"allowed_roots": [clean]}, query={"port": 0}
    )
    (clean / "penstock.toml").write_text('tenant = "b"\n[query]\nport = 1\n')
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().store.token == settings.store.token


def test_the_documentation_lists_every_setting_as_it_is(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--markdown"]) == 0
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page, "make it anew: penstock config --markdown > docs/settings.md"
