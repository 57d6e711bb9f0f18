"""Loads the mutations: patches of the sources, of which every one breaks one guarantee."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).resolve().parent / "patches"
PACKAGE = "src/penstock/"
_PATCH = re.compile(r"Breaks: (?P<name>.+)\nNoticed-by: (?P<tests>.+)\n\n(?P<diff>diff --git .*)", re.DOTALL)
_FILE = re.compile(r"^diff --git a/(\S+) b/\1$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutation:
    """Describes one guarantee that a patch breaks.

    Attributes:
        name: the mistake, as an imperative phrase.
        tests: the tests made for this guarantee; files or single tests.
        diff: the change of one source file, as git writes it.
    """

    name: str
    tests: tuple[str, ...]
    diff: str

    @property
    def slug(self) -> str:
        """Returns the name in the form that the patch file has."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def file(self) -> str:
        """Returns the path of the changed source file, relative to the root of the repository.

        Raises:
            ValueError: the diff does not change exactly one file below `src/penstock`.
        """
        files = _FILE.findall(self.diff)
        if len(files) != 1 or not files[0].startswith(PACKAGE):
            raise ValueError(f"{self.name}: the patch changes {files}, not one file below {PACKAGE}")
        return str(files[0])

    @property
    def text(self) -> str:
        """Returns the content of the patch file."""
        return f"Breaks: {self.name}\nNoticed-by: {' '.join(self.tests)}\n\n{self.diff}"


def read(path: Path) -> Mutation:
    """Reads one patch file.

    Raises:
        ValueError: the header is incomplete, or the file is not named after the mutation.
    """
    parts = re.fullmatch(_PATCH, path.read_text(encoding="utf-8"))
    if parts is None:
        raise ValueError(f"{path.name} needs `Breaks:`, `Noticed-by:`, an empty line and a git diff, in this order")
    mutation = Mutation(parts["name"], tuple(parts["tests"].split()), parts["diff"])
    if path.stem != mutation.slug:
        raise ValueError(f"{path.name} should be named {mutation.slug}.patch")
    return mutation


def load(folder: Path = PATCHES) -> list[Mutation]:
    """Loads all mutations, ordered by source file and name."""
    return sorted(map(read, folder.glob("*.patch")), key=lambda mutation: (mutation.file, mutation.name))


def save(mutation: Mutation, folder: Path = PATCHES) -> None:
    """Writes the patch file of a mutation."""
    (folder / f"{mutation.slug}.patch").write_text(mutation.text, encoding="utf-8")
