"""Tests of reranking and routing in an offline evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.config import QuerySettings
from penstock.encoders.maxsim import PassageScores
from penstock.evaluate.reranking import RerankedFusion
from penstock.evaluate.routing import RoutedFusion
from penstock.query.fusion.base import Candidate, MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.routing.router import Router
from penstock.query.types import FuseOptions, Rankings
from penstock.records import AssetRef, Channel, Collection, Field, ScoredEntry, bare_entry

PASSAGE, JOINT = Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.IMAGE, Field.JOINT)
RULES = MomentRules(5_000, 120_000)


class LengthScorer:
    """Prefers long passages."""

    name = "length"

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [0] * len(passages)

    def score(self, question: str, passages: Sequence[str], *, max_new: int | None = None) -> PassageScores:
        return PassageScores(np.array([len(passage) for passage in passages], np.float32), len(passages), 0)


def rankings(question: str | None = "question") -> Rankings:
    def ranked(channel: Channel, texts: Sequence[str]) -> list[ScoredEntry]:
        return [
            ScoredEntry(
                replace(bare_entry(AssetRef("t", "topic", f"{channel}{number}"), channel.collection), text=text),
                0.9 - number / 1_000,
            )
            for number, text in enumerate(texts)
        ]

    by_channel = {PASSAGE: ranked(PASSAGE, ["a", "bb", "c" * 50, "dd"]), JOINT: ranked(JOINT, ["", ""])}
    spaces = {PASSAGE: "minilm", JOINT: "minilm"}
    return Rankings(by_channel, {}, dict.fromkeys(Collection, 50), spaces, text=question)


def texts_of(ranked: Sequence[tuple[float, Candidate]]) -> list[str]:
    return [candidate.best.text for _, candidate in ranked]


def fusion() -> FusionChooser:
    return FusionChooser(ChannelStatistics())


def test_the_first_texts_change_places_and_images_keep_theirs() -> None:
    plain = fusion().choose(FuseOptions(), rankings())
    before = plain.rank(rankings(), RULES, 6)
    after = RerankedFusion(plain, LengthScorer(), top=6).rank(rankings(), RULES, 6)
    assert [text == "" for text in texts_of(after)] == [text == "" for text in texts_of(before)]
    assert [score for score, _ in after] == [score for score, _ in before]
    words = [text for text in texts_of(after) if text]
    assert words[0] == "c" * 50
    assert sorted(words) == sorted(text for text in texts_of(before) if text)


def test_a_question_by_image_is_not_reranked() -> None:
    plain = fusion().choose(FuseOptions(), rankings(None))
    reranked = RerankedFusion(plain, LengthScorer(), top=6).rank(rankings(None), RULES, 6)
    assert texts_of(reranked) == texts_of(plain.rank(rankings(None), RULES, 6))


def test_a_question_that_names_a_kind_has_it_first() -> None:
    def first(question: str, mode: str) -> Collection:
        routed = RoutedFusion(fusion(), Router.of_settings(QuerySettings()), mode=mode)
        return routed.rank(rankings(question), RULES, 1)[0][1].best.collection

    assert first("what is a heron", "auto") is Collection.TEXT
    assert first("a photo of a heron", "auto") is Collection.IMAGE
    assert first("a photo of a heron", "all") == first("what is a heron", "all")
