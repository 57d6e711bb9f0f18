"""Settings of what is made of a question's words: spelling, synonyms, rewriting."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from penstock.config.section import Section


class SpellingMode(StrEnum):
    """Names what is done with a word that is probably misspelt."""

    APPLY = "apply"  # the corrected question is searched
    SUGGEST = "suggest"  # it is returned as `did_you_mean`
    OFF = "off"


class UnderstandSettings(Section):
    """Sets how the words of questions are corrected, widened and rewritten."""

    spelling: SpellingMode = Field(
        SpellingMode.SUGGEST,
        description="what is done with words that neither the index nor the dictionary knows: apply, suggest or off",
    )
    dictionary: Path | None = Field(
        None, description="file of further words that are spelt right, one a line, besides the index's and English ones"
    )
    synonyms: Path | None = Field(
        None, description="file of synonyms in Solr's format, read again when it changes; unset: none"
    )
    rewrite: bool = Field(
        True, description="rewrite a question that has `messages` before it to one that stands alone, by the generator"
    )
    # A model of 135 million parameters takes 300 to 800 ms for a short answer on two cores, a hosted one 200 to 500 ms.
    rewrite_ms: int = Field(
        400, ge=1, description="time for rewriting a question, milliseconds; then it is searched as it was sent"
    )
    vocabulary_words: int = Field(
        200_000, ge=0, description="words of a tenant that spelling and suggestions know, the rarest left out; 0: none"
    )
    vocabulary_entries: int = Field(
        200_000, ge=1, description="entries of a tenant that are read for its words when a replica starts"
    )
    all_vocabulary_words: int = Field(
        400_000, ge=1, description="words of all tenants in a replica; those that searched longest ago are left out"
    )
