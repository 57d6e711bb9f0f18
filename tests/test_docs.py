"""Checks that the documents name files, links and settings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.config import Settings, explain
from penstock.records import Collection, Field
from penstock.serve.schemas.search_response import QueryOut

ROOT = Path(__file__).parents[1]
# What changed and what was measured keep the names of their time.
_OF_THEIR_TIME = ("CHANGELOG.md", "faults-report.md", "faults-report-milvus.md", "soak-report.md")
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md")
    for page in ROOT.glob(pattern)
    if page.name not in _OF_THEIR_TIME
)
_BASES = ("", "src/penstock", "docs", "tests/faults")  # from which documents name files
_PATH = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml))`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[\w-]+)?\)")
_SETTING = re.compile(rf"`((?:{'|'.join(Settings.model_fields)})\.\w+)`")
_VARIABLE = re.compile(r"\b(PENSTOCK_[A-Z0-9_]*[A-Z0-9])\b")
_NOT_IN_THE_REPOSITORY = {"penstock.toml", "path.toml", "faults-report-milvus.md"}
_ANSWER_FIELDS = {f"query.{name}" for name in QueryOut.model_fields}  # of the result of a search, not settings
_CHANNELS = {f"{collection}.{field}" for collection in Collection for field in Field}
_PROFILE_KEYS = {"models.md"}  # documents the keys of a profile, which has sections of its own

of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _matches(pattern: re.Pattern[str], page: Path) -> Iterator[str]:
    for match in pattern.finditer(page.read_text(encoding="utf-8")):
        yield match[1]


@of_every_page
def test_a_page_names_files_and_links_that_exist(page: Path) -> None:
    bases = [page.parent, *(ROOT / base for base in _BASES)]
    named = {path for path in _matches(_PATH, page) if Path(path).name not in _NOT_IN_THE_REPOSITORY}
    missing = [path for path in sorted(named) if not any((base / path).exists() for base in bases)]
    broken = [link for link in _matches(_LINK, page) if not (page.parent / link).exists()]
    assert (missing, broken) == ([], [])


@of_every_page
def test_a_page_names_settings_that_exist(page: Path) -> None:
    settings = explain(Settings(), {})
    known = {setting.name for setting in settings} | _CHANNELS | _ANSWER_FIELDS
    variables = {setting.variable for setting in settings} | {"PENSTOCK_CONFIG"}
    names = [] if page.name in _PROFILE_KEYS else list(_matches(_SETTING, page))
    unknown = [name for name in names if name not in known and not name.endswith((".py", ".md"))]
    unset = [name for name in _matches(_VARIABLE, page) if name not in variables]
    assert (unknown, unset) == ([], [])
