"""A machine without Prometheus fails the tests that ask one, and says what to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.prometheus import scraping


def test_a_machine_without_prometheus_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(pytest.fail.Exception, match="apt-get install prometheus"),
        scraping("http://127.0.0.1:1/metrics", tmp_path),
    ):
        pass
