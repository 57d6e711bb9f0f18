"""The types of results are those of the query plane: a field that is added there is added here."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from penstock.client import answers, requests, results
from penstock.serve.schemas import answer as answered
from penstock.serve.schemas import ask_request as questions
from penstock.serve.schemas import (
    asset_entries,
    check,
    events,
    explanation,
    feedback,
    live,
    search_response,
    status,
    suggest,
    watches,
)
from penstock.serve.schemas import search_request as bodies

PAIRS: list[tuple[type, type[BaseModel]]] = [
    (requests.SearchRequestJson, bodies.SearchBody),
    (requests.FuseJson, bodies.FuseBody),
    (requests.RerankJson, bodies.RerankBody),
    (requests.UnderstandJson, bodies.UnderstandBody),
    (requests.RegionJson, bodies.RegionBody),
    (requests.WatchRequestJson, watches.WatchBody),
    (answers.AnswerJson, answered.AnswerOut),
    (answers.AnswerSearchJson, answered.FoundOut),
    (answers.AnswerStartJson, answered.SearchEventOut),
    (answers.TokenJson, answered.TokenEventOut),
    (answers.CheckedSentenceJson, answered.SentenceEventOut),
    (answers.SentenceJson, answered.SentenceOut),
    (answers.QuoteJson, answered.QuoteOut),
    (answers.SourceJson, answered.SourceOut),
    (answers.UsageJson, answered.UsageOut),
    (answers.CheckJson, check.CheckOut),
    (requests.AskRequestJson, questions.AskBody),
    (results.SearchResultJson, search_response.SearchOut),
    (results.HitJson, search_response.HitOut),
    (results.MomentJson, search_response.MomentOut),
    (results.MomentFrameJson, search_response.FrameOut),
    (results.MemberJson, search_response.MemberOut),
    (results.FoundByJson, search_response.FoundByOut),
    (results.OriginJson, search_response.OriginOut),
    (results.OtherJson, search_response.OtherOut),
    (results.QueryJson, search_response.QueryOut),
    (results.SpellingJson, search_response.SpellingOut),
    (results.RerankReportJson, search_response.RerankOut),
    (results.ExplanationJson, explanation.ExplanationOut),
    (results.CollectionPartJson, explanation.CollectionPartOut),
    (results.ChannelPartJson, explanation.ChannelPartOut),
    (results.SuggestionJson, suggest.SuggestionOut),
    (results.FeedbackJson, feedback.FeedbackOut),
    (requests.EventJson, events.EventBody),
    (requests.GivenVectorJson, events.GivenVectorBody),
    (requests.FileOptionsJson, events.SharedFields),
    (results.AcceptedEventsJson, events.AcceptedEventsOut),
    (results.AcceptedEventJson, events.AcceptedEventOut),
    (results.EventLimitsJson, events.EventLimitsOut),
    (results.AssetEntryJson, asset_entries.AssetEntryOut),
    (results.IndexedJson, live.IndexedOut),
    (results.MissedJson, live.MissedOut),
    (results.FeedJson, live.FeedOut),
    (results.WatchJson, watches.WatchOut),
    (results.WatchesJson, watches.WatchesOut),
    (results.QueryStatusJson, status.StatusOut),
    (results.VectorCacheJson, status.CacheOut),
]


def published(model: type[BaseModel], mode: str) -> set[str]:
    return set(model.model_json_schema(mode=mode)["properties"])  # type: ignore[arg-type]


@pytest.mark.parametrize(("typed", "model"), PAIRS, ids=lambda item: item.__name__)
def test_a_type_has_the_fields_of_the_query_plane(typed: Any, model: type[BaseModel]) -> None:
    mode = "validation" if typed.__module__ == requests.__name__ else "serialization"
    assert typed.__required_keys__ | typed.__optional_keys__ == published(model, mode)


def test_every_type_of_a_result_is_compared() -> None:
    compared = {typed for typed, _ in PAIRS}
    wrappers = {"SuggestionsJson", "AssetEntriesJson"}  # a list each, which the clients unwrap
    from_kafka = {"WatchNameJson", "MatchedEntryJson", "MatchJson"}
    modules = {**vars(results), **vars(answers)}
    typed = {
        thing
        for name, thing in modules.items()
        if name.endswith("Json") and name not in ("JsonValue", "AnswerEventJson")
    }
    assert {item.__name__ for item in typed - compared} == wrappers | from_kafka
