"""Suggests completions from the vocabulary of a tenant."""

from __future__ import annotations

from penstock.query.suggest import Suggestion, suggest
from penstock.query.understand.vocabularies import Vocabularies


class SuggestService:
    """The use case behind `GET /v1/suggest`.

    Args:
        vocabularies: of all tenants; None: the query plane counts no words, and suggests nothing.
        default_tenant: the tenant of a request that names none.
    """

    def __init__(self, vocabularies: Vocabularies | None, *, default_tenant: str) -> None:
        self._vocabularies = vocabularies
        self._default_tenant = default_tenant

    def suggest(self, typed: str, *, tenant: str | None, limit: int) -> list[Suggestion]:
        """Returns completions of a typed text. Raises QueryError as `penstock.query.suggest.suggest` does."""
        if self._vocabularies is None:
            return []
        return suggest(typed, self._vocabularies.get(tenant or self._default_tenant), limit)
