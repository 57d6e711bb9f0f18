"""Questions labelled by hand with the collection that holds the answer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from penstock.records import Collection

FILE = Path(__file__).with_name("labelled_questions.tsv")


class LabelledQuestion(NamedTuple):
    """A question; `concept` is the name of a thing of the evaluation set `mixed`, or empty."""

    language: str
    collection: Collection
    concept: str
    text: str


def labelled_questions() -> list[LabelledQuestion]:
    """Returns the questions of the file."""
    lines = FILE.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [LabelledQuestion(language, Collection(name), concept, text) for language, name, concept, text in rows]
