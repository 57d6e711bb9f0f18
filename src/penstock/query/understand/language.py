"""Detects the language of a question, and says so where the sentence encoder does not know it.

A detector is wrong about names and single words, so a question in Latin letters needs several words and near certainty.
In another script the letters alone say which languages it may be.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from penstock.analysis.language_detector import MAX_CHARS, language_probabilities

# The script that a letter's Unicode name begins with, and the languages that are written in it, the most common first.
_LANGUAGES: dict[str, tuple[str, ...]] = {
    "CJK": ("zh", "ja"), "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "HANGUL": ("ko",), "THAI": ("th",), "LAO": ("lo",),
    "KHMER": ("km",), "MYANMAR": ("my",), "DEVANAGARI": ("hi", "mr", "ne", "sa"), "BENGALI": ("bn", "as"),
    "GURMUKHI": ("pa",), "GUJARATI": ("gu",), "ORIYA": ("or",), "TAMIL": ("ta",), "TELUGU": ("te",),
    "KANNADA": ("kn",), "MALAYALAM": ("ml",), "SINHALA": ("si",), "GEORGIAN": ("ka",), "ARMENIAN": ("hy",),
    "HEBREW": ("he", "yi"), "GREEK": ("el",), "ETHIOPIC": ("am", "ti"), "ARABIC": ("ar", "fa", "ur", "ug", "ps"),
    "CYRILLIC": ("ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "mn"),
    "LATIN": ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "hu", "ro", "hr", "ca",
              "tr", "id", "vi"),
}  # fmt: skip
_NAMES = {
    "ar": "Arabic", "be": "Belarusian", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "ka": "Georgian", "ko": "Korean", "mr": "Marathi", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sr": "Serbian", "sv": "Swedish", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
# Letters of these scripts stand for about three of an alphabet.
_DENSE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL"})
_DENSE_WEIGHT = 3
# Measured on 18,000 short descriptions of packages and 6,000 sentences: 1 of 12,000 English ones is taken for another
# language, none of 38 names of people, places and dishes, and 41 to 78 % of German, French, Spanish, Italian and
# Portuguese ones are recognised. A threshold of 0.9 recognises 53 to 85 %, and takes 6 of the 38 names for a language.
_MIN_PROBABILITY = 0.95
_MIN_WORDS = 3
# A misspelt English question keeps more; of French and Italian ones of three words most have less.
_MAX_FOREIGN_PROBABILITY = 0.03
_MIN_HAN = 5  # a Japanese sentence of this length has kana


@dataclass(frozen=True, slots=True)
class DetectedLanguage:
    """The language of a question, as far as its letters show it.

    Attributes:
        code: ISO 639-1; None: not certain.
        candidates: the languages of its script, of which it is one; none of a script that is not known here.
        script: the name of its script.
    """

    code: str | None
    candidates: tuple[str, ...]
    script: str


def detect_language(text: str) -> DetectedLanguage | None:
    """Returns the language of a question in the script of most of its letters; None if it has no letters.

    Deterministic; 0.1 ms for a question of ten words once the detector is loaded.
    """
    text = unicodedata.normalize("NFKC", text[:MAX_CHARS])
    letters = Counter(_script(char) for char in text if char.isalpha())
    weights = {script: count * (_DENSE_WEIGHT if script in _DENSE else 1) for script, count in letters.items()}
    if not weights:
        return None
    if letters["HIRAGANA"] + letters["KATAKANA"] and sum(weights.get(script, 0) for script in _DENSE) > _latin(weights):
        return DetectedLanguage("ja", ("ja",), "Kana")
    script = max(weights, key=lambda name: (weights[name], name))
    candidates = _LANGUAGES.get(script, ())
    code = candidates[0] if len(candidates) == 1 else _certain(text, script, letters[script])
    return DetectedLanguage(code, candidates, script.capitalize())


def language_name(code: str) -> str | None:
    """Returns the English name of a language by its code of ISO 639-1; None: it is not known here."""
    return _NAMES.get(code)


def is_foreign(text: str, languages: Set[str]) -> bool:
    """Returns whether a question of several words is in none of these languages, as far as its letters show it."""
    candidates = _LANGUAGES["LATIN"]
    if not languages & set(candidates) or len(text.split()) < _MIN_WORDS:
        return False
    probabilities = language_probabilities(text, candidates)
    return sum(probabilities.get(language, 0.0) for language in languages) < _MAX_FOREIGN_PROBABILITY


def notice_of(detected: DetectedLanguage | None, known: Collection[str] | None, *, lexical: bool) -> str | None:
    """Returns a sentence for the answer to a question that the sentence encoder does not understand.

    Args:
        detected: the language of the question.
        known: the languages of the sentence encoder; None: many, or not known.
        lexical: whether the question's words were searched for, too.
    """
    if detected is None or known is None or not detected.candidates:
        return None
    possible = (detected.code,) if detected.code else detected.candidates
    if set(possible) & set(known) or (detected.code is None and detected.script == "Latin"):
        return None
    name = _NAMES.get(detected.code or "")
    looks = f"looks {name}" if name else f"is in {_SCRIPT_NAMES.get(detected.script, detected.script)} script"
    reliable = "only its literal words were searched for reliably" if lexical else "its hits are not reliable"
    return f"The sentence encoder of this profile knows {_listed(known)} only; this question {looks}, so {reliable}."


_SCRIPT_NAMES = {"Cjk": "Chinese"}


def _script(char: str) -> str:
    name = re.match(r"[A-Z]*", unicodedata.name(char, ""))
    script = name[0] if name else ""
    return "CJK" if script == "IDEOGRAPHIC" else script


def _latin(weights: dict[str, int]) -> int:
    return weights.get("LATIN", 0)


def _certain(text: str, script: str, letters: int) -> str | None:
    """Returns the language of a text in a script of several languages; None without near certainty."""
    if script == "CJK":
        return "zh" if letters >= _MIN_HAN else None
    candidates = _LANGUAGES.get(script, ())
    if not candidates or len(text.split()) < _MIN_WORDS:
        return None
    probabilities = language_probabilities(text, candidates)
    language = next(iter(probabilities))
    return language if probabilities[language] >= _MIN_PROBABILITY else None


def _listed(codes: Collection[str]) -> str:
    names: Sequence[str] = [_NAMES.get(code, code) for code in codes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
