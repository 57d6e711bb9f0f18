"""Runs every search of the pages of the worked examples over their data, with the reference models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cli import main as cli
from tools.examples.readme import EXAMPLES, NAMES, ROOT, ShownSearch, data_of, page_of, shown_searches
from tools.examples.served_index import serve_examples

PAGES = [*(page_of(name) for name in NAMES), ROOT / "docs" / "compose.md"]
SEARCHES = [(page, search) for page in PAGES for search in shown_searches(page)]


def label(value: object) -> str:
    return value.command if isinstance(value, ShownSearch) else str(value)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_examples(tmp_path_factory.mktemp("examples"), NAMES) as served:
        yield served


@pytest.mark.parametrize("search", [search for _, search in SEARCHES], ids=label)
def test_a_search_finds_what_its_page_says(
    search: ShownSearch, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["search", *search.arguments, "--json", "--url", url]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert tuple(hit["key"] for hit in hits[: len(search.keys)]) == search.keys


def test_every_example_has_a_page_with_searches_and_data_that_exist() -> None:
    for name in NAMES:
        assert len(list(shown_searches(page_of(name)))) >= 4
        for line in data_of(name).read_text().splitlines():
            row = json.loads(line)
            assert "text" in row or (EXAMPLES / name / row["path"]).is_file()


def test_a_command_that_does_not_say_what_it_finds_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Search:\n\n    penstock search cat --limit 3\n    # a, b\n")
    assert list(shown_searches(page)) == [ShownSearch(("cat", "--limit", "3"), ("a", "b"))]
    page.write_text("    penstock search cat\n\n")
    with pytest.raises(ValueError, match="does not say what it finds"):
        list(shown_searches(page))
