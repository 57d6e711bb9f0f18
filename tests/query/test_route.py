"""Which channels a question is put to, on full and on poorer stores."""

from __future__ import annotations

import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile, load_profile
from penstock.errors import QueryError
from penstock.query.route import NO_COLLECTION, NOT_OFFERED, SearchPlan, route
from penstock.query.understand.validate import SearchRequest, understand
from penstock.records import FIELDS_OF, Channel, Collection, Field

REFERENCE = load_profile("reference")  # one space for everything
SMALL = load_profile("small")  # text and pictures share a space of their own
ALL = frozenset(Channel(collection, field) for collection, fields in FIELDS_OF.items() for field in fields)
ONE_FIELD = frozenset({Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.IMAGE, Field.JOINT)})


def routed(request: SearchRequest, offered: frozenset[Channel], profile: Profile) -> SearchPlan:
    return route(understand(request, QuerySettings()), offered=offered, profile=profile)


def plan(found: SearchPlan) -> dict[str, str | None]:
    return {str(probe.channel): probe.encoder for probe in found.queries}


def test_text_is_put_to_every_channel_with_the_vector_of_its_space() -> None:
    found = routed(SearchRequest(text="cat"), ALL, SMALL)
    assert plan(found) == {
        "text.passage": "passage.text",
        "text.joint": "joint.text",
        "text.lexical": None,
        "image.joint": "joint.text",
        "speech.passage": "passage.text",
        "speech.lexical": None,
        "frame.joint": "joint.text",
    }
    assert found.missing == {}


def test_two_channels_of_one_collection_and_one_space_are_searched_once() -> None:
    found = routed(SearchRequest(text="cat", modalities=["text", "image"]), ALL, REFERENCE)
    assert plan(found) == {"text.passage": "passage.text", "text.lexical": None, "image.joint": "passage.text"}
    assert found.missing == {}


def test_an_image_is_put_to_every_joint_channel() -> None:
    found = routed(SearchRequest(image=b"cat"), ALL, SMALL)
    assert plan(found) == {"text.joint": "joint.image", "image.joint": "joint.image", "frame.joint": "joint.image"}


def test_an_image_finds_texts_by_their_passage_vector_where_that_is_the_joint_space() -> None:
    found = routed(SearchRequest(image=b"cat"), ONE_FIELD, REFERENCE)
    assert plan(found) == {"text.passage": "joint.image", "image.joint": "joint.image"}
    assert found.missing == {}


def test_an_image_does_not_search_passages_of_another_space() -> None:
    found = routed(SearchRequest(image=b"cat"), ONE_FIELD, SMALL)
    assert plan(found) == {"image.joint": "joint.image"}
    assert found.missing == {Channel(Collection.TEXT, Field.JOINT): NOT_OFFERED}


def test_what_a_poorer_store_cannot_search_is_told() -> None:
    found = routed(SearchRequest(text="cat"), ONE_FIELD, SMALL)
    assert plan(found) == {"text.passage": "passage.text", "image.joint": "joint.text"}
    assert found.missing == {
        Channel(Collection.TEXT, Field.JOINT): NOT_OFFERED,
        Channel(Collection.TEXT, Field.LEXICAL): NOT_OFFERED,
    }


def test_a_kind_that_was_never_indexed_is_told_only_to_those_who_name_it() -> None:
    assert routed(SearchRequest(text="cat"), ONE_FIELD, REFERENCE).missing.keys() == {
        Channel(Collection.TEXT, Field.LEXICAL)
    }
    found = routed(SearchRequest(text="cat", modalities=["audio"]), ONE_FIELD, REFERENCE)
    assert found.queries == ()
    assert set(found.missing.values()) == {NO_COLLECTION}


def test_a_picture_cannot_be_asked_for_speech() -> None:
    with pytest.raises(QueryError) as caught:
        routed(SearchRequest(image=b"cat", modalities=["audio"]), ALL, REFERENCE)
    assert caught.value.field == "/modalities"
