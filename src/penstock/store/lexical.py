"""The words by which BM25 finds an entry, and those of a question, as every store holds and compares them.

Stores analyse no text themselves. They get terms, joined by spaces, in a form that any tokenizer leaves whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.analysis import query_terms, terms
from penstock.records import SINGLE_ENTRY_COLLECTIONS, Entry

MAX_TERMS_BYTES = 65_535  # of a VARCHAR, Milvus's own limit; over four times what the longest passage needs


def searchable_text(entry: Entry) -> str:
    """Returns what BM25 finds an entry by: its text, and of an image also the title that its producer gave.

    A title belongs to a whole document or video, so it would say the same of each of their parts. Of an image it is
    often the only text.
    """
    return f"{entry.title}\n{entry.text}" if entry.collection in SINGLE_ENTRY_COLLECTIONS else entry.text


def terms_of(entry: Entry) -> str:
    """Returns the terms of an entry as a store holds them, at most `MAX_TERMS_BYTES` of UTF-8."""
    return _cut(" ".join(_safe(terms(searchable_text(entry)))))


def terms_of_question(text: str) -> str:
    """Returns the terms of a question to compare with `terms_of`; empty if it has no word."""
    return _cut(" ".join(_safe(query_terms(text))))


def _safe(analysed: Iterable[str]) -> Iterable[str]:
    """Yields the terms in letters and digits alone: tokenizers take words apart at vowel signs of Hindi and Thai."""
    return (term if term.isalnum() else f"x{term.encode('utf-16-be', 'replace').hex()}" for term in analysed)


def _cut(joined: str) -> str:
    """Returns the text, or as many whole terms of it as the column holds: of a longer first term its beginning."""
    encoded = joined.encode(errors="replace")
    if len(encoded) <= MAX_TERMS_BYTES:
        return joined
    end = encoded.rfind(b" ", 0, MAX_TERMS_BYTES + 1)
    return encoded[: end if end > 0 else MAX_TERMS_BYTES].decode(errors="ignore")  # one term may fill the column
