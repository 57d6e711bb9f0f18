from __future__ import annotations

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_a_mutation_breaks_is_still_there(mutation: Mutation) -> None:
    """That a test notices it is what `make mutations` shows."""
    text = (ROOT / "src" / "penstock" / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
