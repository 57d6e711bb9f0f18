"""Checks that every mutation fits the present sources and tests; `make mutations` shows that a test notices it."""

from __future__ import annotations

import pytest

from tests.mutations.catalog import ROOT, Mutation, load
from tests.mutations.runner import mutated

MUTATIONS = load()
every_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.slug)


def test_there_are_mutations() -> None:
    assert MUTATIONS


@every_mutation
def test_a_patch_applies_and_changes_its_file(mutation: Mutation) -> None:
    with mutated(mutation) as source:
        changed = (source.parent / mutation.file).read_text(encoding="utf-8")
    assert changed != (ROOT / mutation.file).read_text(encoding="utf-8")


@every_mutation
def test_a_patch_names_tests_that_exist(mutation: Mutation) -> None:
    for test in mutation.tests:
        file, _, function = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), test
