"""The demo's sample questions, which sentences of the sample texts and documents answer, and their right answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.client import AnswerJson
from penstock.samples.documents import sample_documents
from penstock.samples.texts import sample_texts


@dataclass(frozen=True, slots=True)
class SampleQuestion:
    """One sample question.

    Attributes:
        text: the question.
        key: of the text or document that answers it; None: nothing does, and the answer has to say so.
        fact: words that the answer has to have.
    """

    text: str
    key: str | None = None
    fact: str = ""

    def is_right(self, answer: AnswerJson) -> bool:
        """Returns whether an answer has the fact and cites its source, or says that there is none."""
        if self.key is None:
            return answer["abstained"]
        cited = {source["hit"]["key"] for source in answer["sources"]}
        return not answer["abstained"] and self.key in cited and self.fact in answer["answer"]


def sample_questions(texts: int) -> Iterator[SampleQuestion]:
    """Yields those that the first `texts` texts and the documents can answer, and one that nothing answers."""
    keys = {text.key for text in sample_texts()[:texts]} | {document.key for document in sample_documents()}
    for question in _QUESTIONS:
        if question.key is None or question.key in keys:
            yield question


# Answered by quoting, without a generator. As the sample queries, they show that all parts work together.
_QUESTIONS = (
    SampleQuestion("How long does sound need for a kilometre?", "lightning-distance", "three seconds"),
    SampleQuestion("What does the steam do to the bread?", "bread-crust", "keeps the skin of a loaf soft"),
    SampleQuestion("When is a brake pad worn out?", "bicycle-handbook", "less than one millimetre"),
    SampleQuestion("How much does a passport cost?"),
)
