"""Checks the words of comments, docstrings, messages and documents."""

from __future__ import annotations

from collections.abc import Iterator

from tools.vocabulary.rules import Rules
from tools.vocabulary.sources import Finding, Source

_CONTEXT = 60  # characters on either side of a word that an exception can refer to


def check_words(source: Source, rules: Rules) -> Iterator[Finding]:
    """Yields the banned words of a file, each with its replacement."""
    for passage in source.passages():
        if passage.kind == "string" and rules.holds_data(source.path):
            continue
        for match in rules.words.finditer(passage.text):
            group = match.lastgroup or ""
            if passage.kind not in rules.kinds.get(group, [passage.kind]):
                continue
            start = max(0, match.start() - _CONTEXT)
            word = " ".join(match.group().split())
            yield Finding(
                source.path,
                passage.line_at(match.start()),
                "word",
                f"{word!r} in a {passage.kind} (write {rules.replacements[group]})",
                word,
                passage.text[start : match.end() + _CONTEXT],
                match.start() - start,
            )
