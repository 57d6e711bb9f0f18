"""Opens what a replica understands the words of questions by, from settings."""

from __future__ import annotations

import time

from penstock.config import Settings
from penstock.query.understand.dictionary import Dictionary, read_words
from penstock.query.understand.rewrite import GeneratorRewriter
from penstock.query.understand.synonyms import SynonymFile
from penstock.query.understand.understanding import WordTools
from penstock.query.understand.vocabularies import Vocabularies, VocabularyLimits
from penstock.records import Access
from penstock.store.base import EntrySearch


def open_word_tools(settings: Settings, store: EntrySearch) -> WordTools:
    """Returns the tools, and starts to count the words of the default tenant's index in the background.

    Raises:
        ConfigError: a file of words is missing or wrong.
    """
    query = settings.query
    dictionary = Dictionary(read_words(query.dictionary)) if query.vocabulary_words else None
    synonyms = SynonymFile(query.synonyms, time.monotonic) if query.synonyms else None
    vocabularies = None
    if query.vocabulary_words:
        limits = VocabularyLimits(query.vocabulary_words, query.all_vocabulary_words, query.vocabulary_entries)
        vocabularies = Vocabularies(store, limits)
        vocabularies.start([Access.to_all_of(settings.tenant)])
    return WordTools(
        vocabularies=vocabularies,
        dictionary=dictionary,
        synonyms=synonyms,
        rewriter=GeneratorRewriter(settings.generate) if settings.generate.url else None,
    )
