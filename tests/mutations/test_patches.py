"""Checks that every mutation fits the present sources and tests; `make mutations` shows that a test notices it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.catalog import ROOT, Mutation, load
from tests.mutations.runner import copy_sources, git

MUTATIONS = load()
every_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.slug)


def test_there_are_mutations() -> None:
    assert MUTATIONS


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a copy of the sources, which each test leaves as it was."""
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(ROOT, folder)
    return folder


@every_mutation
def test_a_patch_applies_and_changes_its_file(mutation: Mutation, sources: Path) -> None:
    before = (sources / mutation.file).read_text(encoding="utf-8")
    applied = git(sources, "apply", "--whitespace=nowarn", "-", stdin=mutation.diff)
    assert applied.returncode == 0, f"`python -m tests.mutations --refresh` brings it up to date\n{applied.stderr}"
    assert (sources / mutation.file).read_text(encoding="utf-8") != before
    assert git(sources, "apply", "--reverse", "--whitespace=nowarn", "-", stdin=mutation.diff).returncode == 0


@every_mutation
def test_a_patch_names_tests_that_exist(mutation: Mutation) -> None:
    for test in mutation.tests:
        file, _, function = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), test
