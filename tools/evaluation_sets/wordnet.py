"""Senses of WordNet with an example: the example sentence is the query, the words and the definition are the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.evaluation_sets.layout import SetDraft, ordered_by_hash
from tools.evaluation_sets.packages import Packages

PACKAGE = "wordnet-base"
_PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_DOCUMENTS = 6_000
_MIN_DEFINITION_CHARS, _MIN_EXAMPLE_CHARS = 26, 21


@dataclass(frozen=True)
class Sense:
    """A sense of WordNet: its offset in the file, words, definition and examples."""

    offset: str
    words: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


def build(packages: Packages, folder: Path) -> None:
    """Builds the set."""
    senses = {
        f"{letter}{sense.offset}": sense
        for part, letter in _PARTS.items()
        for sense in read_senses(database(packages) / f"data.{part}")
        if len(sense.definition) >= _MIN_DEFINITION_CHARS
        and sense.examples
        and len(sense.examples[0]) >= _MIN_EXAMPLE_CHARS
    }
    draft = SetDraft(folder)
    for document in ordered_by_hash(senses)[:_DOCUMENTS]:
        sense = senses[document]
        words = ", ".join(sense.words)
        draft.add_document(document, document, title=words, text=f"{words}: {sense.definition}")
        draft.add_query(f"ex:{document}", sense.examples[0], lang="en", kind="example", relevant=[document])
    draft.write(source=f"Debian {PACKAGE}", licence="WordNet 3.0")


def database(packages: Packages) -> Path:
    """Returns the folder of WordNet's files."""
    return packages.debian(PACKAGE) / "usr/share/wordnet"


def read_senses(file: Path) -> Iterator[Sense]:
    """Yields the senses of a file `data.POS` (the format of wndb(5)); the licence at its head is indented."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        count = int(fields[3], 16)
        words = [re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        definition, *examples = [part.strip() for part in re.split(r";\s*(?=\")", gloss)]
        quoted = tuple(example.strip('" ') for example in examples if example.startswith('"'))
        yield Sense(fields[0], tuple(words), definition, quoted)


def read_first_senses(file: Path) -> dict[str, str]:
    """Returns the offset of the most frequent sense of each word of a file `index.POS`."""
    first: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            pointers = int(fields[3])
            first[fields[0].replace("_", " ")] = fields[4 + pointers + 2]
    return first
