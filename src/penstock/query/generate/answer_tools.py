"""Holds what answers are made with."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.check.sources import Encode
from penstock.query.generate.generators import AnswerGenerator
from penstock.query.generate.images import PromptImages
from penstock.query.generate.sources import SourceReader
from penstock.query.generate.template import PromptTemplate


@dataclass(frozen=True, slots=True)
class AnswerTools:
    """Holds the parts of a replica that answers are made with.

    Attributes:
        sources: reads the sources.
        checker: compares sentences with them.
        generator: writes answers; None: they quote the sources.
        template: of its prompts; None: the packaged one.
        images: adds images to its prompts; None: it reads words alone.
        encode: returns the vectors of sentences, float32[sentences, dim]; None: the words alone decide.
        encode_question: the same for questions; None: as above.
    """

    sources: SourceReader
    checker: SentenceChecker
    generator: AnswerGenerator | None = None
    template: PromptTemplate | None = None
    images: PromptImages | None = None
    encode: Encode | None = None
    encode_question: Encode | None = None
