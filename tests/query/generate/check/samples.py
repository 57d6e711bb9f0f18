"""Sources for the tests of the check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.query.generate.types import Source
from penstock.query.types import Hit
from penstock.records import AssetRef, Collection
from penstock.records.entries import bare_entry


def text_source(text: str, number: int = 1, title: str = "") -> Source:
    """Returns a source that is a passage of a text."""
    entry = bare_entry(AssetRef("default", "text", str(number)), Collection.TEXT)
    return Source(number, Hit(replace(entry, title=title, text=text), 1.0, ()), text)


def text_sources(texts: Sequence[str | tuple[str, str]]) -> list[Source]:
    """Returns passages as sources, numbered from 1; a pair is a title and a text."""
    return [
        text_source(text, number) if isinstance(text, str) else text_source(text[1], number, text[0])
        for number, text in enumerate(texts, start=1)
    ]
