"""Fixtures that cost minutes, made once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.operate.containers import build_image


@pytest.fixture(scope="session")
def whole_image() -> str:
    """Builds the image with embedded broker and store."""
    return build_image("all")


@pytest.fixture(scope="session")
def cpu_image() -> str:
    """Builds the image for clusters without GPUs."""
    return build_image("cpu")
