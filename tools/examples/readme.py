"""Reads the worked examples: their data, and the searches that their pages show with what these find.

A search is an indented command, and a comment with the keys of the first hits on the line after it:

    penstock search "something against rain" --tenant products
    # umbrella
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = ("products", "cases", "voice", "service")
_COMMAND = "    penstock search "
_COMMENT = "    # "


@dataclass(frozen=True, slots=True)
class ShownSearch:
    """A search of a page.

    Attributes:
        arguments: of `penstock search`; paths start at the root of the repository.
        keys: of the first hits, in order.
    """

    arguments: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def command(self) -> str:
        """Returns the command as it is shown."""
        return shlex.join(["penstock", "search", *self.arguments])


def page_of(name: str) -> Path:
    """Returns the page of an example."""
    return EXAMPLES / name / "README.md"


def data_of(name: str) -> Path:
    """Returns the file of an example that `penstock produce` takes."""
    return EXAMPLES / name / f"{name}.jsonl"


def shown_searches(page: Path) -> Iterator[ShownSearch]:
    """Yields the searches of a page, in order.

    Raises:
        ValueError: a command has no comment after it.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(_COMMAND):
            if not after.startswith(_COMMENT):
                raise ValueError(f"{page}: the line after {line.strip()!r} does not say what it finds")
            keys = (key.strip() for key in after.removeprefix(_COMMENT).split(","))
            yield ShownSearch(tuple(shlex.split(line)[2:]), tuple(keys))
