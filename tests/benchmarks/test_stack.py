from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.stack import LocalStack, stack_settings, temporary_folder
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import Child


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of temporary folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def measure(raised: BaseException | None = None) -> None:
    """A measurement that leaves a log, and may fail."""
    with temporary_folder() as folder:
        log = folder / "data" / "logs" / "ingest.log"
        log.parent.mkdir(parents=True)
        log.write_text("why it failed")
        if raised is not None:
            raise raised


def test_the_folder_is_gone_after_a_measurement(temporary: Path) -> None:
    measure()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), ConfigError("no such profile")])
def test_the_folder_is_gone_after_what_its_logs_do_not_explain(raised: BaseException, temporary: Path) -> None:
    with pytest.raises(type(raised)):
        measure(raised)
    assert not list(temporary.iterdir())


def test_logs_are_kept_and_named_where_something_did_not_answer(temporary: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        measure(UnavailableError("5 of 10 events are not searchable."))
    (folder,) = temporary.iterdir()
    assert (folder / "data" / "logs" / "ingest.log").read_text() == "why it failed"
    what_to_do = f"Its logs are kept in {folder / 'data'}: read them, then delete {folder}"
    assert str(caught.value) == f"5 of 10 events are not searchable. {what_to_do}"


def test_a_house_that_ended_by_itself_names_its_log(temporary: Path) -> None:
    settings = stack_settings(temporary, profile="null:8", store_uri=None)
    stack = LocalStack(settings, Child("a stack", [sys.executable, "-c", ""], log=settings.data_dir / "up.log"))
    with pytest.raises(UnavailableError, match=r"ended by itself; its `up\.log` says why"):
        _ = stack.query_url
