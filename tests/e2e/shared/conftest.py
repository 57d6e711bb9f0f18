from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="package")
def claims_root() -> Iterator[Path]:
    """A folder whose files may be claimed."""
    with tempfile.TemporaryDirectory(prefix="penstock-claims-") as folder:
        yield Path(folder)


@pytest.fixture(scope="package")
def stack(claims_root: Path) -> Iterator[Stack]:
    """One running Penstock for all tests of this folder. They leave it as it was, but for their own assets."""
    environment = {
        "PENSTOCK_FETCH__ALLOWED_ROOTS": f'["{claims_root}"]',
        "PENSTOCK_FETCH__ALLOW_PRIVATE_ADDRESSES": "true",
        "PENSTOCK_FETCH__DEADLINE_S": "3",
        "PENSTOCK_QUERY__PORT": "0",
    }
    with tempfile.TemporaryDirectory(prefix="penstock-e2e-") as folder:
        stack = Stack(Path(folder) / "data", environment)
        try:
            stack.start()
            yield stack
        finally:
            stack.close()
