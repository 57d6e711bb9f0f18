"""Runs tests on the tiny models, reruns those with real servers once, and removes deadlines from property tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer

from tests.scheduling import TwoRaysAtOnce, sort_by_length

# Tiny, fast and the same everywhere; what else is installed on the machine must not change a test.
os.environ["PENSTOCK_PROFILE"] = "reference"

# Hypothesis fails an example that takes over 200 ms, which on a busy machine says nothing about the code.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")


_OF_FAULTS = ("/faults/", "/test_paging.py")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TwoRaysAtOnce:
    """Returns what distributes tests to the workers (xdist's hook)."""
    return TwoRaysAtOnce(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts tests, and reruns a failed test with real servers once, except tests of faults.

    On two shared cores a server misses a deadline in one of some hundred such tests. The summary counts the reruns, and
    a test that fails twice fails. Tests without servers have no such excuse, and neither have tests of faults: they
    check that nothing goes wrong once in a while.
    """
    sort_by_length(items)
    for item in items:
        if item.get_closest_marker("services") and not any(name in item.nodeid for name in _OF_FAULTS):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.get_closest_marker("slow_on_standalone") and "[standalone" in item.nodeid:
            item.add_marker(pytest.mark.exhaustive)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Takes back what a test left in the environment: a command run in this process joins Ray by variables.

    A Ray of a later test would start with them, and demand the token of a folder that is gone.
    """
    before = dict(os.environ)
    try:
        return (yield)
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty working directory, without settings in the environment."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
