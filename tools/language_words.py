"""Chooses the words in tests/analysis/languages.json, as other segmenters than Penstock's cut them.

The texts in that file were written for it. This tool replaces their words:

    uv pip install jieba==0.42.1 fugashi==1.5.2 unidic-lite==1.0.8 kiwipiepy==0.24.1 pythainlp==5.4.0
    python -m tools.language_words tests/analysis/languages.json

Arabic words stay as they are in the file: they were chosen by hand, without articles and conjunctions.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORDS_OF_TEXT = 5
_MIN_LETTERS = 4  # of a word between spaces; shorter ones are mostly pronouns and prepositions
_BY_HAND = "ar"

Cut = Callable[[str], list[str]]


def main() -> None:
    path = Path(sys.argv[1])
    languages = json.loads(path.read_text(encoding="utf-8"))
    for code, language in languages.items():
        if code != _BY_HAND:
            cut = _SEGMENTERS.get(code, _between_spaces)()
            language["words"] = _chosen(language["texts"], cut)
    path.write_text(json.dumps(languages, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _chosen(texts: Sequence[str], cut: Cut) -> list[str]:
    """Returns words that are literally in the texts, the same number of each text, from its whole length."""
    chosen: list[str] = []
    for text in texts:
        words = [word for word in dict.fromkeys(cut(text)) if word in text and word not in chosen]
        chosen += [words[round(place * (len(words) - 1) / (WORDS_OF_TEXT - 1))] for place in range(WORDS_OF_TEXT)]
    return chosen


def _jieba() -> Cut:
    tagged: Any = importlib.import_module("jieba.posseg")
    return lambda text: [word for word, tag in tagged.cut(text) if tag[0] in "nvast"]


def _mecab() -> Cut:
    tagger = importlib.import_module("fugashi").Tagger()
    content = ("名詞", "動詞", "形容詞", "形状詞", "副詞")
    return lambda text: [word.surface for word in tagger(text) if word.feature.pos1 in content]


def _kiwi() -> Cut:
    kiwi = importlib.import_module("kiwipiepy").Kiwi()
    return lambda text: [token.form for token in kiwi.tokenize(text) if token.tag in ("NNG", "NNP", "MAG", "VV", "VA")]


def _newmm() -> Cut:
    segment = importlib.import_module("pythainlp").word_tokenize
    return lambda text: [word for word in segment(text, engine="newmm") if len(word) > 1]


def _between_spaces() -> Cut:
    return lambda text: [word for word in re.split(r"[\s,.:।]+", text) if len(word) >= _MIN_LETTERS]


_SEGMENTERS: dict[str, Callable[[], Cut]] = {"zh": _jieba, "ja": _mecab, "ko": _kiwi, "th": _newmm}


if __name__ == "__main__":
    main()
