"""Images of entries, and what becomes of a search if they are gone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.assets import AssetStore, asset_uri
from penstock.config import FetchRule, FetchSettings
from penstock.errors import QueryError, UnavailableError
from penstock.media.claim_check import ClaimCheckReader
from penstock.query.parts.base import PartsRequest
from penstock.query.parts.images import CLAIM_CHECK, STORED_MEDIA, THUMBNAIL, EntryImage, EntryImageReader
from penstock.query.parts.reasons import FROM_THUMBNAIL
from penstock.query.types import SearchRequest
from penstock.records import Collection, ImageRegion
from tests.query.parts.catalog import Catalog, ids

UPPER = ImageRegion(0, 0, 1, 0.5)
GONE = asset_uri(hashlib.sha256(b"gone").hexdigest())


def rule_of(folder: Path) -> FetchRule:
    return FetchRule(tenants=("*",), scheme="file", prefix=str(folder))


@pytest.fixture
def media() -> AssetStore:
    return AssetStore("memory://images")


def test_an_image_is_read_from_the_asset_store(media: AssetStore) -> None:
    entry = Catalog().add(Collection.IMAGE, "cat", uri=asset_uri(media.put(b"image")))
    assert EntryImageReader(media, None).read(entry, 1) == EntryImage(b"image", STORED_MEDIA)


def test_an_image_elsewhere_is_read_by_its_claim_check_within_the_limits_of_the_settings(
    media: AssetStore, tmp_path: object
) -> None:
    file = Path(str(tmp_path)) / "cat.png"
    file.write_bytes(b"image")
    entry = Catalog().add(Collection.IMAGE, "cat", uri=file.as_uri())
    allowed = ClaimCheckReader(FetchSettings(allow=(rule_of(file.parent),)))
    assert EntryImageReader(media, allowed).read(entry, 10) == EntryImage(b"image", CLAIM_CHECK)
    with pytest.raises(QueryError, match="not kept any more"):
        EntryImageReader(media, ClaimCheckReader(FetchSettings(allow=(rule_of(file.parent / "other"),)))).read(
            entry, 10
        )


def test_a_image_that_is_gone_is_an_error_of_the_request(media: AssetStore) -> None:
    entry = Catalog().add(Collection.FRAME, "cat", thumbnail=GONE)
    for absent in (entry, replace(entry, thumbnail="")):
        with pytest.raises(QueryError, match="not kept any more") as caught:
            EntryImageReader(media, None).read(absent, 1)
        assert (caught.value.status, caught.value.field) == (422, "/frame/id")


def test_a_store_that_is_down_is_no_error_of_the_request() -> None:
    class Down:
        def read(self, sha256: str) -> bytes:
            raise UnavailableError("connection refused")

    entry = Catalog().add(Collection.IMAGE, "cat", uri=GONE)
    with pytest.raises(UnavailableError, match="connection refused"):
        EntryImageReader(Down(), None).read(entry, 1)


def test_a_region_of_a_frame_is_cut_from_its_thumbnail_and_the_answer_says_so(media: AssetStore) -> None:
    index = Catalog()
    index.add(Collection.IMAGE, "red")
    index.add(Collection.IMAGE, "boat")
    frame = index.add(Collection.FRAME, "red boat", thumbnail=asset_uri(media.put(b"red boat")))
    request = SearchRequest(parts=PartsRequest(frame=frame.id, region=UPPER), modalities=["image"])
    (result,) = index.search(request, images=EntryImageReader(media, None))
    assert result.hits[0].entry.title == "red"
    assert (result.image_source, result.because) == (THUMBNAIL, (FROM_THUMBNAIL,))
    assert "load" in result.took_ms


def test_the_frame_itself_may_be_found(media: AssetStore) -> None:
    index = Catalog()
    image = asset_uri(media.put(b"red boat"))
    image = index.add(Collection.IMAGE, "red boat", uri=image)
    index.add(Collection.IMAGE, "red")
    (whole,) = index.search(SearchRequest(parts=PartsRequest(frame=image.id)))
    assert ids(whole)[0] == image.id
    request = SearchRequest(parts=PartsRequest(frame=image.id, region=UPPER))
    (part,) = index.search(request, images=EntryImageReader(media, None))
    assert part.hits[0].entry.title == "red"
    assert (part.image_source, part.because) == (STORED_MEDIA, ())
    with pytest.raises(QueryError, match="reads no images"):
        index.search(request)
