"""Telephone prompts that a person speaks, with their words: Debian's Asterisk prompts."""

from __future__ import annotations

import gzip
import shutil
from collections import defaultdict
from pathlib import Path

from tools.evaluation_sets.layout import SetDraft, normalise
from tools.evaluation_sets.packages import Packages

_WORDS, _RECORDINGS = "asterisk-core-sounds-en", "asterisk-core-sounds-en-wav"
_MIN_WORDS = 3


def build(packages: Packages, folder: Path) -> None:
    """Builds the set. A query has the words of a prompt, and finds every recording of them."""
    list_file = packages.debian(_WORDS) / "usr/share/doc" / _WORDS / "core-sounds-en.txt.gz"
    root = packages.debian(_RECORDINGS) / "usr/share/asterisk/sounds/en_US_f_Allison"
    recordings = {str(file.relative_to(root).with_suffix("")): file for file in sorted(root.rglob("*.wav"))}
    draft = SetDraft(folder)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    texts: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for line in gzip.decompress(list_file.read_bytes()).decode("utf-8", errors="replace").splitlines():
        name, separator, words = line.partition(": ")
        if line.startswith(";") or not separator or name not in recordings:
            continue
        if "[" in words or len(words.split()) < _MIN_WORDS:  # a tone, or a word or two
            continue
        document = "pr-" + name.replace("/", "_")
        audio = f"audio/{document}.wav"
        shutil.copyfile(recordings[name], folder / audio)
        draft.add_document(document, normalise(words), title="", text=words.strip(), audio=audio)
        texts["en", "verbatim", normalise(words)].append((document, words.strip()))
    draft.add_queries(texts)
    draft.write(source=f"Debian {_WORDS} and {_RECORDINGS}", licence="CC-BY-SA-3.0")
