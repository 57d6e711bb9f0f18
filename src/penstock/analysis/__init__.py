"""Turns texts and questions into the terms that BM25 counts, the same way in every store and in every evaluation.

A text gives its terms by `terms`, a question by `query_terms`. Every term of a question that occurs literally in a text
is a term of the text, for the languages of both are unknown and nothing here guesses them:

1. `folding` removes differences of spelling that a question need not repeat: case, width, accents, vowel points
2. scripts with spaces give words, and words of some scripts are stemmed (`stemming`)
3. scripts without spaces give n-grams (`ngrams`), which agree with any segmenter of words

docs/decisions/0017-words-are-analysed-before-the-store.md has the measurements behind these choices.
"""

from penstock.analysis.analyzer import ANALYZER, query_terms, terms

__all__ = ["ANALYZER", "query_terms", "terms"]
