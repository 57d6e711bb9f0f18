"""Cuts a sentence into words: their stems, clauses, weights, and which of them are names or negate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import regex

from penstock.analysis import query_terms
from penstock.analysis.folding import fold
from penstock.query.generate.check.lexicon import Lexicon, common_words, lexicon, opposites, stem

_WITHOUT_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_NUMERALS = "零〇一二两三四五六七八九十百千万亿"
_MEASURES = "个本年月日分秒小时元块度人天岁次米公斤克%％位只条张倍升名种"
_TOKEN = regex.compile(
    rf"(?P<date>\p{{Nd}}{{4}}-\p{{Nd}}{{1,2}}-\p{{Nd}}{{1,2}}|\p{{Nd}}{{1,2}}([./])\p{{Nd}}{{1,2}}\2\p{{Nd}}{{4}})"
    r"|(?P<number>\p{Nd}{1,2}:\p{Nd}{2}|\p{Nd}+(?:[.,'’\u00a0\u202f]\p{Nd}+)*+(?:st|nd|rd|th)?(?![\p{L}\p{Nd}]))"
    r"|(?P<mixed>[\p{L}\p{Nd}]*(?:\p{L}\p{Nd}|\p{Nd}(?:\.\p{Nd}+)?\p{Latin})[\p{L}\p{Nd}]*)"
    r"|(?P<sign>[$€£¥%％°])"
    rf"|(?P<numeral>[{_NUMERALS}]{{2,}}|[{_NUMERALS}](?=[{_MEASURES}]))"
    rf"|(?P<dense>[{_WITHOUT_SPACES}])"
    rf"|(?P<word>[^\W\d_{_WITHOUT_SPACES}][\p{{L}}\p{{M}}--[{_WITHOUT_SPACES}]]*(?:['’]\p{{L}}+)*)"
    r"|(?P<end>[.!?…。！？]+)"
    r"|(?P<clause>[,;:()\[\]\"“”„«»\n，、；：（）「」]|[—–]|\s-+\s|--)",
    regex.V1,
)
_DENSE = regex.compile(rf"[{_WITHOUT_SPACES}]")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_NOT = regex.compile(r"(\p{L}+)n['’]t", regex.IGNORECASE)
_CONJUNCTION_WORDS = (
    "but because since while whereas although though so which who whose that when if unless until where then aber "
    "weil dass wahrend obwohl wenn sondern mais parce que si lorsque pero porque cuando aunque ma perche quando mas "
    "maar omdat terwijl но потому что если"
)
_CONJUNCTIONS = frozenset(_CONJUNCTION_WORDS.split())
_JOINING = frozenset({"and", "or", "und", "oder", "et", "ou", "y", "o", "e", "en", "и", "или"})
_SUBJECT_WORDS = (
    "i you he she it we they there this these is are was were can cannot could will would may might must should "
    "does do did has have had er sie es wir man ist sind il elle ils elles on el ella ellos"
)
_SUBJECTS = frozenset(_SUBJECT_WORDS.split())
_NAME_FREE = frozenset({"de"})  # languages that capitalise all nouns
_NEVER_NEGATIVE = regex.compile(
    "不仅|不但|不过|不同|不断|不得不|无论|無論|非常|未来|未來|特别|特別|别人|分别|区别|类别|级别|性别"
)
LIGHT_WEIGHT, COMMON_WEIGHT, WEIGHT, NAME_WEIGHT = 0.3, 0.6, 1.0, 1.5
DENSE_WEIGHT, RELATION_WEIGHT = 0.4, 0.6
_MOSTLY_CAPITALS = 0.6


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence.

    Attributes:
        text: as it is written.
        folded: in lower case, without accents.
        stem: the term of the index; of scripts without spaces an n-gram.
        place: its number in the sentence, from 0.
        clause: the number of its clause, from 0.
        weight: how much it claims; 0 for stop words.
        is_name: whether capitals mark it as a name.
        negates: whether it turns its clause into the opposite.
        cjk: whether its script has no spaces.
    """

    text: str
    folded: str
    stem: str
    place: int
    clause: int
    weight: float
    is_name: bool = False
    negates: bool = False
    cjk: bool = False


def read_words(text: str, language: str | None) -> list[Word]:
    """Returns the words of a sentence, in order, with signs such as `%`.

    Args:
        text: the sentence.
        language: ISO 639-1; None: taken for English.
    """
    lists = lexicon(language or _language_of_script(text))
    words: list[Word] = []
    clause, begins, dense = 0, True, ""
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match[0]
        if dense and kind != "dense":
            words.extend(_dense_words(dense, len(words), clause, lists))
            dense = ""
        if kind in ("clause", "end"):
            clause += 1 if words and words[-1].clause == clause else 0
            begins = begins or token[0] in '.!?…:“"„«'
        elif kind == "dense":
            dense += token
        else:
            word = _word(kind, token, len(words), clause, lists, begins=begins)
            if _begins_clause(word, words) and words and words[-1].clause == clause:
                clause += 1
                word = replace(word, clause=clause)
            words.append(word)
            begins = False
    if dense:
        words.extend(_dense_words(dense, len(words), clause, lists))
    return _with_negations(_with_names(words, language), lists)


def _begins_clause(word: Word, words: Sequence[Word]) -> bool:
    """Returns whether a clause begins here: at a conjunction, or behind an "and" that joins no nouns."""
    if word.folded in _CONJUNCTIONS:
        return True
    return bool(words) and words[-1].folded in _JOINING and (word.negates or word.folded in _SUBJECTS)


def _language_of_script(text: str) -> str | None:
    """Returns the language that letters without spaces show; None for others."""
    if text.isascii() or (dense := _DENSE.search(text)) is None:
        return None
    if _KANA.search(text):
        return "ja"
    return "th" if "\u0e00" <= dense[0] <= "\u0e7f" else "zh"


def _word(kind: str, token: str, place: int, clause: int, lists: Lexicon, *, begins: bool) -> Word:
    if kind in ("date", "number", "sign", "numeral"):
        folded = token.lower() if kind != "sign" else token
        return Word(token, folded, folded, place, clause, 0.0, cjk=kind == "numeral")
    if _NOT.fullmatch(token) is not None:
        return Word(token, "n't", "n't", place, clause, 0.0, negates=True)
    bare = regex.sub(r"['’]s?$", "", token)
    folded = fold(bare).replace(" ", "")
    root = stem(folded)
    is_name = token[0].isupper() and len(token) > 1 and (not begins or not token[1:].islower())
    weight = WEIGHT
    if folded in lists.stop or (len(folded) < 2 and not folded.isdigit()):
        weight = RELATION_WEIGHT if root in opposites() and folded not in _PARTICLES else 0.0
    elif folded in lists.light:
        weight = LIGHT_WEIGHT
    elif is_name or kind == "mixed":
        weight = NAME_WEIGHT
    elif folded in common_words():
        weight = COMMON_WEIGHT
    return Word(token, folded, root, place, clause, weight, is_name and weight >= WEIGHT, folded in lists.negations)


# Opposites that are mostly particles and prepositions, which paraphrases exchange.
_PARTICLE_WORDS = (
    "within on off up down in out near all every none no never over under most few same not first last "
    "vor nach auf zu plus moins mas piu neu"
)
_PARTICLES = frozenset(_PARTICLE_WORDS.split())


def _dense_words(text: str, place: int, clause: int, lists: Lexicon) -> Iterator[Word]:
    """Yields the n-grams of letters without spaces, and whether an odd number of negations is among them."""
    cleaned = _NEVER_NEGATIVE.sub("", text)
    negations = sum(cleaned.count(cue) for cue in lists.inside)
    for offset, term in enumerate(query_terms(text)):
        weight = 0.0 if all(char in lists.stop for char in term) else DENSE_WEIGHT
        yield Word(term, term, term, place + offset, clause, weight, negates=offset < negations, cjk=True)


def _with_names(words: list[Word], language: str | None) -> list[Word]:
    """Takes back that words are names where capitals do not mark names: in German, and in titles."""
    spelt = [word for word in words if word.text[:1].isalpha() and not word.cjk]
    capitals = sum(word.text[:1].isupper() for word in spelt)
    if language not in _NAME_FREE and (len(spelt) < 4 or capitals < _MOSTLY_CAPITALS * len(spelt)):
        return words
    return [replace(word, is_name=False, weight=min(word.weight, WEIGHT)) for word in words]


def _with_negations(words: list[Word], lists: Lexicon) -> list[Word]:
    """Corrects by phrases which words negate: "not only" does not, "instead of" does."""
    joined = " ".join(word.folded for word in words)
    places = [0]
    for word in words:
        places.append(places[-1] + len(word.folded) + 1)

    def ranges(pattern: regex.Pattern[str]) -> Iterator[Sequence[int]]:
        for match in pattern.finditer(joined):
            yield [place for place in range(len(words)) if match.start() <= places[place] < match.end()]

    for span in ranges(lists.affirming):
        for place in span:
            words[place] = replace(words[place], negates=False)
    for span in ranges(lists.negating):
        for place in span:
            words[place] = replace(words[place], negates=place == span[-1])
    return words
