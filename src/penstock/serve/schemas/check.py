"""The JSON of `POST /v1/check`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from penstock.query.generate.types import CheckedSentence
from penstock.serve.schemas.answer import SentenceOut, sentence_out


class CheckBody(BaseModel):
    """An answer, and what it rests on."""

    model_config = ConfigDict(extra="forbid")

    answer: StrictStr = Field(
        description="sentences with markers such as `[1]`; at most 20,000 characters and 200 sentences",
        examples=["Honey keeps because it holds little water [1]."],
    )
    sources: list[StrictStr] = Field(
        description="texts, or ids of entries (32 hexadecimal digits); the first is number 1; at most 50 of at most "
        "20,000 characters each, with 100,000 characters and fewer than 400 sentences in all",
        examples=[["Honey holds so little water that bacteria cannot grow in it."]],
    )
    tenant: StrictStr | None = Field(
        None,
        description="the owner of the entries; if absent, the caller's only one, or the default one if it reads all",
    )


class CheckOut(BaseModel):
    """The sentences of the answer, each with its support."""

    sentences: list[SentenceOut]


def check_out(sentences: Iterable[CheckedSentence]) -> CheckOut:
    """Returns the JSON of checked sentences."""
    return CheckOut(sentences=[sentence_out(sentence) for sentence in sentences])
