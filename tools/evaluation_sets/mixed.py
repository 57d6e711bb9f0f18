"""Images and definitions together: what is relevant is of both kinds, and the definition does not name the thing.

A concept is the most frequent sense of a noun that foods or clip art are named by. Its documents are up to three images
of each set, and its definition. Its queries are its words: the first is its name, the others are synonyms.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tools.evaluation_sets import wordnet
from tools.evaluation_sets.layout import SetDraft, normalise
from tools.evaluation_sets.packages import MissingPackageError, Packages

_MAX_IMAGES = 3
_NAME_OF: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "foods": lambda row: normalise(row["text"]),
    "clipart": lambda row: row["title"],
}


def build(packages: Packages, folder: Path) -> None:
    """Builds the set beside the sets `foods` and `clipart`, whose images it refers to."""
    database = wordnet.database(packages)
    first = wordnet.read_first_senses(database / "index.noun")
    senses = {sense.offset: sense for sense in wordnet.read_senses(database / "data.noun")}
    images: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in _NAME_OF:
        for offset, document, path in _images(name, folder.parent / name, first):
            images[offset].append((f"{name}:{document}", path))
    draft = SetDraft(folder)
    for offset, of_concept in sorted(images.items()):
        sense = senses[offset]
        if _names_itself(sense):
            continue
        text = f"wn-{offset}"
        draft.add_document(text, offset, title="", text=sense.definition, kind="text")
        for document, path in of_concept:
            draft.add_document(document, offset, title="", text="", image=path, kind="image")
        relevant = [text, *(document for document, _ in of_concept)]
        for number, word in enumerate(sense.words):
            kind, label = ("synonym", "syn") if number else ("name", "name")
            draft.add_query(f"{label}:{offset}:{number}", word, lang="en", kind=kind, relevant=relevant)
    draft.write(source="foods, clipart and Debian wordnet-base", licence="as its parts")


def _images(name: str, folder: Path, first: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields sense, document and path of the images of a set whose name is a noun of WordNet."""
    if not (folder / "corpus.jsonl").is_file():
        raise MissingPackageError(f"it is made of the set {name}, which is not in {folder.parent}")
    count: dict[str, int] = defaultdict(int)
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        offset = _sense_of(_NAME_OF[name](row), first)
        if offset is not None and count[offset] < _MAX_IMAGES:
            count[offset] += 1
            yield offset, row["_id"], f"../{name}/{row['image']}"


def _sense_of(name: str, first: Mapping[str, str]) -> str | None:
    """Returns the sense of a name, of its singular, or of its last two words."""
    for form in (name, re.sub(r"s$", "", name), re.sub(r"ies$", "y", name)):
        if form in first:
            return first[form]
    words = name.split()
    return first.get(" ".join(words[-2:])) if len(words) > 1 else None


def _names_itself(sense: wordnet.Sense) -> bool:
    """Returns whether the definition has one of the words: BM25 alone would find it."""
    definition = sense.definition.lower()
    return any(re.search(rf"\b{re.escape(word.lower())}\b", definition) for word in sense.words)
