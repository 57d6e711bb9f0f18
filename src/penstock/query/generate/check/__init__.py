"""Checks each sentence of an answer against the sources that it cites, by rules and by the sentence encoder."""

from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.check.sources import Encode, ReadSources, SourceSentence

__all__ = ["Encode", "ReadSources", "SentenceChecker", "SourceSentence"]
