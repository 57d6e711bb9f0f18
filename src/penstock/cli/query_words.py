"""The options of `penstock search` that say what is made of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock.client import SearchRequestJson, UnderstandJson

SpellingOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODE", help="Words that are probably misspelt: apply (search for what was meant), suggest or off."
    ),
]
SynonymsOption = Annotated[
    bool | None, typer.Option("--synonyms/--no-synonyms", help="Search for synonyms, too. Default: if there are any.")
]
RewriteOption = Annotated[
    bool | None,
    typer.Option("--rewrite/--no-rewrite", help="Let the generator rewrite the query. Default: after --after."),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option("--after", metavar="TEXT", help="A query before this one, which it follows. Repeatable, in order."),
]


@dataclass(frozen=True, slots=True)
class WordOptions:
    """The options as they were given."""

    spelling: str | None = None
    synonyms: bool | None = None
    rewrite: bool | None = None
    after: Sequence[str] | None = None

    def add_to(self, body: SearchRequestJson) -> None:
        """Adds what was given to the body of a request; the query plane checks it."""
        understand: UnderstandJson = {}
        if self.spelling is not None:
            understand["spelling"] = self.spelling
        if self.synonyms is not None:
            understand["synonyms"] = self.synonyms
        if self.rewrite is not None:
            understand["rewrite"] = self.rewrite
        if understand:
            body["understand"] = understand
        if self.after:
            body["messages"] = [{"role": "user", "content": text} for text in self.after]
