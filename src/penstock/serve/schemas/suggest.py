"""The JSON of `GET /v1/suggest`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, Field

from penstock.query.suggest import Suggestion, SuggestionKind


class SuggestionOut(BaseModel):
    """A text that the typed one may become."""

    text: str = Field(examples=["silver anchor"], description="the whole text, to search for")
    kind: SuggestionKind = Field(description="word: its last word was completed; title: it begins a title")
    count: int = Field(description="entries with the word, or assets with the title")


class SuggestOut(BaseModel):
    """Completions, those of the most entries first."""

    suggestions: list[SuggestionOut]


def suggest_out(suggestions: Iterable[Suggestion]) -> SuggestOut:
    """Returns the JSON of suggestions."""
    return SuggestOut(
        suggestions=[
            SuggestionOut(text=suggestion.text, kind=suggestion.kind, count=suggestion.count)
            for suggestion in suggestions
        ]
    )
