"""Tests which passages a search of texts, of documents and of both is of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.query.conditions import is_filtered, where_in
from penstock.query.route import route
from penstock.query.types import SearchRequest
from penstock.query.understand.validate import validate
from penstock.records import FIELDS_OF, AssetRef, Channel, Collection, bare_entry
from penstock.store.filter_semantics import matches
from penstock.store.filters import Comparison, Filter

ALL = frozenset(Channel(collection, field) for collection, fields in FIELDS_OF.items() for field in fields)
ENTRY = bare_entry(AssetRef("default", "media.text", "k"), Collection.TEXT)


def finds(condition: Filter | None, *, page: int) -> bool:
    return condition is None or matches(condition, replace(ENTRY, page=page))


@pytest.mark.parametrize(
    ("modalities", "of_text", "of_document"),
    [
        (None, True, True),
        (["text"], True, False),
        (["document"], False, True),
        (["document", "text"], True, True),
        (["image", "document"], False, True),
        (["text", "video"], True, False),
    ],
)
def test_passages_are_of_the_kinds_that_are_searched(
    modalities: list[str] | None, of_text: bool, of_document: bool
) -> None:
    query = validate(SearchRequest(text="cat", modalities=modalities), QuerySettings())
    condition = where_in(query, Collection.TEXT)
    assert (finds(condition, page=0), finds(condition, page=7)) == (of_text, of_document)
    assert is_filtered(query) is (not (of_text and of_document))


def test_a_condition_of_the_request_holds_as_well_and_other_collections_have_it_alone() -> None:
    own = Comparison("mime", "eq", "application/pdf")
    query = validate(SearchRequest(text="cat", modalities=["document"], where=own), QuerySettings())
    pdf = replace(ENTRY, page=1, mime="application/pdf")
    condition = where_in(query, Collection.TEXT)
    assert condition is not None
    assert [matches(condition, entry) for entry in (pdf, replace(pdf, page=0), replace(pdf, mime="text/plain"))] == [
        True,
        False,
        False,
    ]
    assert where_in(query, Collection.PAGE) == own


def test_each_channel_is_searched_with_the_condition_of_its_collection() -> None:
    query = validate(SearchRequest(text="cat", modalities=["document"]), QuerySettings())
    plan = route(query, offered=ALL, profile=load_profile("reference"))
    conditions = {planned.channel.collection: planned.where for planned in plan.queries}
    assert conditions == {Collection.TEXT: Comparison("page", "gt", 0), Collection.PAGE: None}
