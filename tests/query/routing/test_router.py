"""Tests of the weights of channels, and of the reasons that are given for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.config import QuerySettings, SourceSettings
from penstock.errors import ConfigError, QueryError
from penstock.query.routing.exemplars import Exemplars
from penstock.query.routing.proposals import FilterProposals
from penstock.query.routing.router import MIN_LEAD, UNLIKE, UNNAMED, Router, Routing
from penstock.query.routing.sources import NamedSources
from penstock.query.routing.words import ModalityWords
from penstock.query.types import FuseOptions, Query, SearchRequest
from penstock.query.understand.validate import validate
from penstock.records import Channel, Collection, Field, Float32
from tests.query.routing.questions import labelled_questions

IMAGE, TEXT = Channel(Collection.IMAGE, Field.JOINT), Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
MANUALS = SourceSettings(filter={"attributes.shelf": "manuals"}, description="instructions")
SOURCES = {"manuals": MANUALS, "old": SourceSettings(filter={"event_time": {"lt": "2000-01-01T00:00:00Z"}}, weight=0.5)}


def query(text: str | None, *, settings: QuerySettings | None = None, **parts: Any) -> Query:
    return validate(SearchRequest(text=text, **parts), settings or QuerySettings())


def vector(*values: float) -> Float32:
    router_of_test = np.array(values, dtype=np.float32)
    return router_of_test / np.linalg.norm(router_of_test)


def router(exemplars: Exemplars | None = None, **settings: Any) -> Router:
    return Router(ModalityWords(), NamedSources(QuerySettings(**settings)), FilterProposals(), exemplars=exemplars)


def routed(text: str | None, **parts: Any) -> Routing:
    return router().route(query(text, **parts))


def test_words_of_the_question_lower_the_collections_that_it_does_not_name() -> None:
    routing = routed("a photo of a bicycle")
    assert (routing.weight(IMAGE), routing.weight(TEXT)) == (1.0, UNNAMED)
    assert routing.because == ("Collections sound, speech, text weigh 0.3 instead of 1, as the question says “photo”.",)


def test_a_question_without_such_words_weighs_all_alike_and_gives_no_reason() -> None:
    routing = routed("bicycle")
    assert routing.is_even
    assert routing.because == ()


def test_the_collection_of_the_answer_keeps_at_least_half_its_weight_in_99_of_100_labelled_questions() -> None:
    questions = labelled_questions()
    weights = [routed(question.text).collections.get(question.collection, 1.0) for question in questions]
    assert sum(weight >= 0.5 for weight in weights) >= 0.99 * len(questions)


@pytest.mark.parametrize("text", ["a photo of a bicycle", "bicycle", "what is a bicycle"])
def test_reasons_are_given_exactly_where_weights_differ(text: str) -> None:
    routing = routed(text)
    assert bool(routing.because) != routing.is_even


def test_a_question_never_excludes_a_channel() -> None:
    for question in labelled_questions():
        assert not any(routed(question.text).excludes(channel) for channel in (IMAGE, TEXT, LEXICAL))


def test_words_lower_nothing_where_they_name_none_of_the_collections_that_are_searched() -> None:
    assert routed("a photo of a bicycle", modalities=["text"]).is_even
    assert routed("a photo of a bicycle", modalities=["image"]).is_even


def test_route_all_weighs_everything_alike() -> None:
    assert routed("a photo of a bicycle", route="all").is_even


def test_the_weights_of_a_request_replace_those_of_the_question() -> None:
    routing = routed("a photo of a bicycle", route={"text": 2.0, "text.lexical": 0.5, "image": 0})
    assert (routing.weight(TEXT), routing.weight(LEXICAL), routing.weight(IMAGE)) == (2.0, 1.0, 0.0)
    assert routing.excludes(IMAGE)
    assert routing.because == ("The request sets weights: text 2, image 0, text.lexical 0.5.",)


@pytest.mark.parametrize(
    ("route", "field", "message"),
    [
        ("some", "/route", "there is no route 'some'"),
        ({"picture": 1.0}, "/route/picture", "no collection or channel 'picture'"),
        ({"image": -1.0}, "/route/image", "can be 0 to"),
        ({"image": float("nan")}, "/route/image", "can be 0 to"),
    ],
)
def test_a_route_that_is_not_valid_is_refused_with_a_pointer(route: Any, field: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        query("bicycle", route=route)
    assert caught.value.field == field


def test_weights_multiply_those_of_the_fusion() -> None:
    options = FuseOptions(weights={Collection.TEXT: 2.0}, channel_weights={LEXICAL: 0.5})
    routing = Routing({Collection.TEXT: 0.3}, {LEXICAL: 4.0, IMAGE: 2.0})
    applied = routing.applied_to(options)
    assert applied.weights[Collection.TEXT] == pytest.approx(0.6)
    assert applied.weights[Collection.IMAGE] == 1.0
    assert applied.channel_weights == {LEXICAL: 2.0, IMAGE: 2.0}
    assert Routing().applied_to(options) is options


# --- the vector of the question --------------------------------------------------------------------------------------

PICTURES, TEXTS = frozenset({Collection.IMAGE}), frozenset({Collection.TEXT})
EXEMPLARS = Exemplars(
    [(PICTURES, "a"), (PICTURES, "b"), (TEXTS, "c"), (TEXTS, "d")],
    np.stack([vector(1, 0, 0), vector(1, 0.2, 0), vector(0, 0, 1), vector(0, 0.2, 1)]),
)


def test_a_vector_much_nearer_to_the_examples_of_one_kind_lowers_the_others() -> None:
    question = query("red car in front of a house")
    before = router(EXEMPLARS).route(question)
    routing = router(EXEMPLARS).refine(before, question, vector(1, 0, 0))
    assert before.is_even
    assert (routing.weight(IMAGE), routing.weight(TEXT)) == (1.0, UNLIKE)
    assert "resembles others of that kind" in routing.because[0]


def test_below_the_confidence_all_weigh_1() -> None:
    question = query("bicycle")
    nearly = vector(1, 0, 1 - MIN_LEAD / 2)
    routing = router(EXEMPLARS).refine(router(EXEMPLARS).route(question), question, nearly)
    assert routing.is_even
    assert routing.because == ()


def test_words_go_before_examples() -> None:
    question = query("a photo of the contract")
    routing = router(EXEMPLARS).refine(router(EXEMPLARS).route(question), question, vector(0, 0, 1))
    assert routing.weight(IMAGE) == 1.0


@pytest.mark.parametrize("parts", [{"route": "all"}, {"route": {"text": 1.0}}])
def test_examples_decide_on_nothing_but_auto(parts: Any) -> None:
    question = query("bicycle", **parts)
    assert router(EXEMPLARS).refine(router(EXEMPLARS).route(question), question, vector(1, 0, 0)).is_even


def test_a_vector_that_is_not_known_in_time_changes_nothing() -> None:
    question = query("bicycle")
    assert router(EXEMPLARS).refine(router(EXEMPLARS).route(question), question, None).is_even


def test_the_shipped_examples_are_encoded_once_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "examples.txt"
    file.write_text("image en: one more example\n", encoding="utf-8")
    calls: list[Sequence[str]] = []

    def encode(texts: Sequence[str]) -> Float32:
        calls.append(texts)
        return np.stack([vector(1, row) for row in range(len(texts))])

    router_of_test = Router.of_settings(QuerySettings(route_exemplars=file), encode)
    assert len(calls) == 1
    assert calls[0][-1] == "one more example"
    router_of_test.refine(router_of_test.route(query("bicycle")), query("bicycle"), vector(1, 0))
    assert len(calls) == 1


# --- sources ---------------------------------------------------------------------------------------------------------


def test_sources_have_the_weights_of_the_settings_and_more_where_the_question_names_them() -> None:
    router_of_test = router(sources=SOURCES)
    plain = router_of_test.route(query("bicycle", settings=QuerySettings(sources=SOURCES)))
    assert [(source.name, source.weight) for source in plain.sources] == [("old", 0.5)]
    named = router_of_test.route(query("bicycle in the manuals", settings=QuerySettings(sources=SOURCES)))
    assert [(source.name, source.weight) for source in named.sources] == [("manuals", 2.0), ("old", 0.5)]
    assert "Source manuals weighs 2, as the question names it." in named.because


def test_a_question_that_resembles_the_description_of_a_source_weighs_it_more_once() -> None:
    settings = QuerySettings(sources=SOURCES)
    router_of_test = Router(
        ModalityWords(), NamedSources(settings), FilterProposals(), descriptions={"manuals": vector(0, 1, 0)}
    )
    for text in ("how to", "how to, by the manuals"):
        question = query(text, settings=settings)
        refined = router_of_test.refine(router_of_test.route(question), question, vector(0, 1, 0))
        assert [(source.name, source.weight) for source in refined.sources] == [("manuals", 2.0), ("old", 0.5)]


def test_a_request_weighs_sources_by_name() -> None:
    settings = QuerySettings(sources=SOURCES)
    routing = router(sources=SOURCES).route(query("bicycle", settings=settings, route={"old": 3.0, "text": 1.0}))
    assert [(source.name, source.weight) for source in routing.sources] == [("old", 3.0)]
    assert routing.shown([TEXT]) == {"text.passage": 1.0, "old": 3.0}


@pytest.mark.parametrize(("filter_", "message"), [({}, "is empty"), ({"colour": 1}, "query.sources.x.filter")])
def test_a_source_without_a_valid_filter_is_refused(filter_: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NamedSources(QuerySettings(sources={"x": SourceSettings(filter=filter_)}))


def test_the_implied_filter_is_only_proposed() -> None:
    router_of_test = Router(ModalityWords(), NamedSources(QuerySettings()), FilterProposals(), now_ms=lambda: 0)
    question = query("heron by camera x100 from last year")
    routing = router_of_test.route(question)
    assert routing.proposed_filter == {
        "attributes.camera": "x100",
        "event_time": {"gte": "1969-01-01T00:00:00Z", "lt": "1970-01-01T00:00:00Z"},
    }
    assert question.where is None
    assert router_of_test.route(query(None, image=b"heron")).proposed_filter is None
