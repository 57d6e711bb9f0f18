"""Suggests completions from the vocabulary of what a caller may read."""

from __future__ import annotations

from penstock.observability import audit_log
from penstock.query.suggest import Suggestion, suggest
from penstock.query.understand.vocabularies import Vocabularies
from penstock.records import Access


class SuggestService:
    """The use case behind `GET /v1/suggest`.

    Args:
        vocabularies: of the index; None: the query plane counts no words, and suggests nothing.
    """

    def __init__(self, vocabularies: Vocabularies | None) -> None:
        self._vocabularies = vocabularies

    def suggest(self, typed: str, *, access: Access, limit: int) -> list[Suggestion]:
        """Returns completions of a typed text. Raises QueryError as `penstock.query.suggest.suggest` does."""
        audit_log.note(tenant=access.tenant, text=typed)
        if self._vocabularies is None:
            return []
        return suggest(typed, self._vocabularies.get(access), limit)
