"""Tests the channels that a query is searched in, on stores with all fields and with fewer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile, load_profile
from penstock.errors import QueryError
from penstock.query.parts.inputs import ImageInput, TextInput
from penstock.query.route import NO_COLLECTION, NOT_OFFERED, route
from penstock.query.types import SearchPlan, SearchRequest
from penstock.query.understand.validate import validate
from penstock.records import FIELDS_OF, Channel, Collection, Field

REFERENCE = load_profile("reference")  # one space for everything
# Texts and images share a space of their own; the sentence encoder knows English.
SMALL = replace(load_profile("small"), passage=load_profile("reference").passage)
ALL = frozenset(Channel(collection, field) for collection, fields in FIELDS_OF.items() for field in fields)
ONE_FIELD = frozenset({Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.IMAGE, Field.JOINT)})


def routed(request: SearchRequest, offered: frozenset[Channel], profile: Profile) -> SearchPlan:
    return route(validate(request, QuerySettings()), offered=offered, profile=profile)


def encoders(plan: SearchPlan) -> dict[str, str | None]:
    return {str(query.channel): query.encoder for query in plan.queries}


def test_text_is_searched_for_in_every_channel_with_the_vector_of_its_space() -> None:
    plan = routed(SearchRequest(text="cat"), ALL, SMALL)
    assert encoders(plan) == {
        "text.passage": "passage.text",
        "text.joint": "joint.text",
        "text.lexical": None,
        "image.joint": "joint.text",
        "speech.passage": "passage.text",
        "speech.lexical": None,
        "frame.joint": "joint.text",
        "page.joint": "joint.text",
    }
    assert plan.missing == {}


def test_words_of_images_are_searched_where_a_model_of_the_profile_writes_them() -> None:
    plan = routed(SearchRequest(text="exit", modalities=["image"]), ALL, replace(SMALL, ocr=object()))
    assert encoders(plan) == {"image.joint": "joint.text", "image.lexical": None}
    plan = routed(SearchRequest(text="exit", modalities=["image"]), ONE_FIELD, replace(SMALL, ocr=object()))
    assert plan.missing == {Channel(Collection.IMAGE, Field.LEXICAL): NOT_OFFERED}


def test_two_channels_of_one_collection_and_one_space_are_searched_once() -> None:
    plan = routed(SearchRequest(text="cat", modalities=["text", "image"]), ALL, REFERENCE)
    assert encoders(plan) == {"text.passage": "passage.text", "text.lexical": None, "image.joint": "passage.text"}
    assert plan.missing == {}


def test_an_image_is_searched_for_in_every_joint_channel() -> None:
    plan = routed(SearchRequest(image=b"cat"), ALL, SMALL)
    assert encoders(plan) == {f"{collection}.joint": "joint.image" for collection in ("text", "image", "frame", "page")}


def test_an_image_finds_texts_by_their_passage_vector_where_that_is_the_joint_space() -> None:
    plan = routed(SearchRequest(image=b"cat"), ONE_FIELD, REFERENCE)
    assert encoders(plan) == {"text.passage": "joint.image", "image.joint": "joint.image"}
    assert plan.missing == {}


def test_an_image_does_not_search_passages_of_another_space() -> None:
    plan = routed(SearchRequest(image=b"cat"), ONE_FIELD, SMALL)
    assert encoders(plan) == {"image.joint": "joint.image"}
    assert plan.missing == {Channel(Collection.TEXT, Field.JOINT): NOT_OFFERED}


def test_channels_that_the_store_does_not_offer_are_missing() -> None:
    plan = routed(SearchRequest(text="cat"), ONE_FIELD, SMALL)
    assert encoders(plan) == {"text.passage": "passage.text", "image.joint": "joint.text"}
    assert plan.missing == {
        Channel(Collection.TEXT, Field.JOINT): NOT_OFFERED,
        Channel(Collection.TEXT, Field.LEXICAL): NOT_OFFERED,
    }


def test_a_collection_that_is_not_in_the_index_is_missing_only_if_it_was_requested() -> None:
    assert routed(SearchRequest(text="cat"), ONE_FIELD, REFERENCE).missing.keys() == {
        Channel(Collection.TEXT, Field.LEXICAL)
    }
    plan = routed(SearchRequest(text="cat", modalities=["audio"]), ONE_FIELD, REFERENCE)
    assert plan.queries == ()
    assert set(plan.missing.values()) == {NO_COLLECTION}


def test_an_image_query_for_speech_alone_is_rejected() -> None:
    with pytest.raises(QueryError) as caught:
        routed(SearchRequest(image=b"cat", modalities=["audio"]), ALL, REFERENCE)
    assert caught.value.field == "/modalities"


def test_a_channel_query_has_the_part_of_the_query_that_its_encoder_takes() -> None:
    text = {query.search_for for query in routed(SearchRequest(text=" cat "), ONE_FIELD, SMALL).queries}
    assert text == {
        TextInput("passage.text", "cat", Field.PASSAGE),
        TextInput("joint.text", "cat", Field.JOINT),
    }
    image = {query.search_for for query in routed(SearchRequest(image=b"cat"), ALL, SMALL).queries}
    assert image == {ImageInput("joint.image", b"cat")}
