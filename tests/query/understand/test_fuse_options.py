"""The options of fusion: what a request may ask for, and where it is pointed to if it may not."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from penstock.config import FusionMethod, Normalisation, QuerySettings
from penstock.errors import QueryError
from penstock.query.types import FuseRequest
from penstock.query.understand.fuse_options import MAX_K, MAX_WEIGHT, fuse_options
from penstock.records import Channel, Collection, Field

SETTINGS = QuerySettings(rrf_k=7, fusion_alpha=0.3, weights={Collection.IMAGE: 0.5})


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (FuseRequest("best"), "/fuse/method", "there are calibrated, weighted, early, rrf"),
        (FuseRequest("learned"), "/fuse/method", "reserved"),
        (FuseRequest("weighted", normalise="sigmoid"), "/fuse/normalise", "z-by-channel"),
        (FuseRequest(normalise="z-score"), "/fuse/normalise", "method weighted"),
        (FuseRequest("weighted", k=10), "/fuse/k", "method rrf"),
        (FuseRequest("rrf", alpha=0.5), "/fuse/alpha", "method early"),
        (FuseRequest("rrf", k=0), "/fuse/k", "1 to"),
        (FuseRequest("rrf", k=MAX_K + 1), "/fuse/k", "1 to"),
        (FuseRequest("early", alpha=1.1), "/fuse/alpha", "0 to 1"),
        (FuseRequest("early", alpha=math.nan), "/fuse/alpha", "0 to 1"),
        (FuseRequest(weights={"image": -1.0}), "/fuse/weights/image", "0 to"),
        (FuseRequest(weights={"image": MAX_WEIGHT + 1}), "/fuse/weights/image", "0 to"),
        (FuseRequest(weights={"text.lexical": math.inf}), "/fuse/weights/text.lexical", "0 to"),
        (FuseRequest(weights={"a/b": 1.0}), "/fuse/weights/a~1b", "no collection or channel"),
        (FuseRequest(weights={"image.lexical.x": 1.0}), "/fuse/weights/image.lexical.x", "text.passage"),
    ],
)
def test_an_option_at_fault_is_pointed_to_in_words(request_: FuseRequest, field: str, words: str) -> None:
    with pytest.raises(QueryError, match=words) as refused:
        fuse_options(request_, SETTINGS)
    assert (refused.value.status, refused.value.field) == (400, field)


def test_without_a_request_the_settings_hold() -> None:
    options = fuse_options(None, SETTINGS)
    assert (options.method, options.normalise) == (FusionMethod.CALIBRATED, Normalisation.Z_BY_CHANNEL)
    assert (options.k, options.alpha, options.weights) == (7, 0.3, {Collection.IMAGE: 0.5})


def test_a_request_overrides_the_settings_it_names() -> None:
    weights = {"text": 2.0, "text.lexical": 0.5}
    options = fuse_options(FuseRequest("weighted", "robust", weights=weights), SETTINGS)
    assert (options.method, options.normalise) == (FusionMethod.WEIGHTED, Normalisation.ROBUST)
    assert options.weights == {Collection.IMAGE: 0.5, Collection.TEXT: 2.0}
    assert options.channel_weights == {Channel(Collection.TEXT, Field.LEXICAL): 0.5}


def test_the_setting_learned_is_refused_in_words_too() -> None:
    with pytest.raises(ValidationError, match="reserved"):
        QuerySettings(fusion="learned")
