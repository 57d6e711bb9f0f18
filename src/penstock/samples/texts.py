"""Sample texts: short pieces on everyday subjects, written for this project, streamed in beside the images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TEXTS_PATH = Path(__file__).with_name("texts.jsonl")


@dataclass(frozen=True)
class SampleText:
    """A short text of two to five sentences, with a unique `key` that never changes."""

    key: str
    title: str
    text: str


@cache
def sample_texts() -> tuple[SampleText, ...]:
    """Returns every shipped text, in the order of the file; at least 200, all distinct."""
    lines = TEXTS_PATH.read_text(encoding="utf-8").splitlines()
    return tuple(SampleText(**json.loads(line)) for line in lines if line.strip())
