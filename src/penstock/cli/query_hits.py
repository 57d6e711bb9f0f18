"""The options of `penstock search` for groups, pages, diversity and explanations, and what they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.render import say

if TYPE_CHECKING:
    from penstock.client import ExplanationJson, HitJson, SearchRequestJson, SearchResultJson

GroupByOption = Annotated[
    str | None, typer.Option("--group-by", metavar="WHAT", help="Make each moment, asset or entry one hit.")
]
DiversifyOption = Annotated[
    float | None,
    typer.Option(
        "--diversify", metavar="0…1", help="Move similar hits back: the share of the score, such as 0.7; 1: none moves."
    ),
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Show what put each hit in its place.")]
CursorOption = Annotated[
    str | None, typer.Option("--cursor", metavar="TEXT", help="Continue a search: next_cursor of its --json.")
]
PageOption = Annotated[
    int | None, typer.Option("--page", metavar="N", min=1, help="Show the Nth page; those before are fetched, too.")
]


@dataclass(frozen=True, slots=True)
class HitRequest:
    """The options of the hits of a search, as they were given."""

    group_by: str | None = None
    diversify: float | None = None
    explain: bool = False
    cursor: str | None = None
    page: int | None = None

    def add_to(self, body: SearchRequestJson) -> None:
        """Adds those that were given to a request.

        Raises:
            UsageError: both a cursor and a page.
        """
        from penstock.errors import UsageError

        if self.cursor is not None and self.page is not None:
            raise UsageError("give --page or --cursor: both say where to continue")
        if self.group_by is not None:
            body["group_by"] = self.group_by
        if self.diversify is not None:
            body["diversify"] = {"lambda": self.diversify}
        if self.explain:
            body["explain"] = True
        if self.cursor is not None:
            body["cursor"] = self.cursor


def fetch_page(
    search: Callable[[SearchRequestJson], SearchResultJson], body: SearchRequestJson, page: int
) -> tuple[SearchResultJson, int]:
    """Returns a page of a search, from 1, and the number of hits before it.

    Raises:
        UsageError: there are fewer pages.
    """
    from penstock.errors import UsageError

    result, before = search(body), 0
    for number in range(1, page):
        before += len(result["hits"])
        cursor = result.get("next_cursor")
        if cursor is None:
            raise UsageError(f"there is no page {page}: the search has {number} with {before} hits")
        body["cursor"] = cursor
        result = search(body)
    return result, before


def say_explanations(result: SearchResultJson, first_rank: int) -> None:
    """Prints a line for each hit that has an explanation."""
    for rank, hit in enumerate(result["hits"], start=first_rank):
        explanation = hit.get("explain")
        if explanation is not None:
            say(f"#{rank}: {format_explanation(hit, explanation)}")


def format_explanation(hit: HitJson, explanation: ExplanationJson) -> str:
    """Returns the parts of the score, the ranks and the parts of the relevance of a hit."""
    sums = []
    for value in explanation["collections"]:
        parts = [f"{part['channel']} {part['part']:+.2f} ({part['share']:.0%})" for part in value["channels"]]
        constant = f" {value['constant']:+.2f}" if value["constant"] else ""
        sums.append(f"{' '.join(parts)}{constant} = {value['value']:.2f}")
    score = f"{'; '.join(sums)} ({explanation['combined']}: {explanation['fused_score']:.4f})"
    ranks = f"fused {explanation['fused_rank']}"
    if explanation["reranked_rank"] is not None:
        ranks += f", reranked {explanation['reranked_rank']}"
    if explanation["rank"] != (explanation["reranked_rank"] or explanation["fused_rank"]):
        ranks += f", shown {explanation['rank']}"
    if explanation["promoted"]:
        ranks += ", first for the share of its kind"
    relevance = explanation["relevance"]
    if not relevance or hit.get("relevance") is None:
        return f"{score}; {ranks}"
    log_odds = " ".join(f"{name} {part:+.2f}" for name, part in relevance.items() if abs(part) >= 0.005)
    return f"{score}; {ranks}; log-odds of relevance {log_odds} = {sum(relevance.values()):.2f}"


def say_further(result: SearchResultJson, page: int) -> None:
    """Prints how to see the next page, and whether the pages before have changed."""
    if result.get("changed"):
        say("The pages before would be others now: the index has changed, or a channel was late.")
    if result.get("next_cursor"):
        say(f"There may be more hits: --page {page + 1}")
