from __future__ import annotations

import json
import socket
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


def own_address() -> str:
    """Returns the address of this machine in a network: claim checks never reach loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # of an example network; sends nothing
        address: str = probe.getsockname()[0]
    return address


@pytest.fixture(scope="package")
def stack(claims_root: Path) -> Iterator[Stack]:
    """One running Penstock for all tests of this folder. They leave it as it was, but for their own assets."""
    rules: list[dict[str, object]] = [
        {"tenants": ["*"], "scheme": "file", "prefix": str(claims_root)},
        {"tenants": ["*"], "scheme": "http", "host": own_address(), "networks": [f"{own_address()}/32"]},
    ]
    environment = {
        "PENSTOCK_FETCH__ALLOW": json.dumps(rules),
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
