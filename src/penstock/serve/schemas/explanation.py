"""The JSON that explains a hit."""

from __future__ import annotations

from pydantic import BaseModel, Field

from penstock.query.explanations import Combined, HitExplanation


class ChannelPartOut(BaseModel):
    """The part of one channel in the value of a hit."""

    channel: str = Field(examples=["text.passage"])
    rank: int | None = Field(description="from 1; null: the channel did not return the hit")
    score: float | None = Field(description="cosine similarity or BM25")
    value: float = Field(description="the score on the scale of the fusion")
    weight: float = Field(description="of the channel within its collection")
    part: float = Field(description="what it adds to the value of its collection")
    share: float = Field(description="its part in all that raises the hit, 0 to 1")


class CollectionPartOut(BaseModel):
    """The value of a hit in one collection: `constant` and the parts of all channels add up to it."""

    collection: str = Field(examples=["text"])
    channels: list[ChannelPartOut]
    constant: float = Field(description="what any entry of the collection has")
    value: float
    weighted: float = Field(description="the value with the weight of the collection")


class ExplanationOut(BaseModel):
    """The reasons for the place of a hit."""

    collections: list[CollectionPartOut] = Field(description="its value in each collection that found it")
    combined: str = Field(
        description="how the weighted values become fused_score: sum (it is the value), either (log Σ exp), mean, mix, "
        "rank (by its rank among its kind), place (by its place in its collection)",
        json_schema_extra={"enum": [*Combined]},
    )
    fused_score: float = Field(description="from the fusion, before a later step moved the hit")
    fused_rank: int = Field(description="from 1, over all pages, by the fusion")
    reranked_rank: int | None = Field(description="after reranking; null: the hit was not among those reranked")
    rank: int = Field(description="in the answer, over all pages")
    promoted: bool = Field(description="whether it is first for the share of its kind in the index")
    relevance: dict[str, float] | None = Field(
        description="parts that add up to the log-odds of its relevance: of each channel, `prior`, `intercept`, "
        "features of the question, and `cap` for what only a deeper search found; null: it is not known",
        examples=[{"text.passage": 2.1, "text.lexical": 0.4, "prior": -1.9, "intercept": 0.2, "lead": 0.5}],
    )


def explanation_out(explanation: HitExplanation, *, promoted: bool) -> ExplanationOut:
    """Returns the JSON of an explanation."""
    return ExplanationOut(
        collections=[
            CollectionPartOut(
                collection=value.collection,
                channels=[
                    ChannelPartOut(
                        channel=str(part.channel),
                        rank=part.rank,
                        score=part.score,
                        value=part.value,
                        weight=part.weight,
                        part=part.part,
                        share=explanation.share(part.channel),
                    )
                    for part in value.channels
                ],
                constant=value.constant,
                value=value.value,
                weighted=value.weighted,
            )
            for value in explanation.score_parts.collections
        ],
        combined=explanation.score_parts.combined,
        fused_score=explanation.fused_score,
        fused_rank=explanation.fused_rank,
        reranked_rank=explanation.reranked_rank,
        rank=explanation.rank,
        promoted=promoted,
        relevance=None if explanation.relevance_parts is None else dict(explanation.relevance_parts),
    )
