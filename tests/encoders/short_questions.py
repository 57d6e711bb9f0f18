"""Reads short questions in three languages about the sample texts, which tests and measurements ask."""

from __future__ import annotations

from pathlib import Path

LANGUAGES = ("zh", "de", "fr")

_FILE = Path(__file__).with_name("short_questions.tsv")


def read_short_questions() -> tuple[tuple[str, dict[str, str]], ...]:
    """Returns the key of each sample text that a question seeks, and the question by language."""
    rows = [line.split("\t") for line in _FILE.read_text("utf-8").splitlines()]
    return tuple((key, dict(zip(LANGUAGES, questions, strict=True))) for key, *questions in rows)
