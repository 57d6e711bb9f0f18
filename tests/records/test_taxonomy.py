"""Checks that the tables of modalities are complete, and that other packages cover what they list."""

from __future__ import annotations

from penstock.config import KafkaSettings
from penstock.ingest.canary import MEDIA
from penstock.media import known_good
from penstock.media.decode import DECODERS
from penstock.records import (
    COLLECTION_SPECS,
    COLLECTIONS_OF,
    MODALITIES,
    SEGMENTED_COLLECTIONS,
    SEGMENTED_MODALITIES,
    SINGLE_ENTRY_COLLECTIONS,
    THUMBNAIL_COLLECTIONS,
    TIMED_COLLECTIONS,
    TIMED_MODALITIES,
    VISUAL_COLLECTIONS,
    Collection,
    Modality,
)


def test_every_modality_and_every_collection_has_its_row() -> None:
    assert set(MODALITIES) == set(Modality)
    assert set(COLLECTION_SPECS) == set(Collection)
    assert {collection for collections in COLLECTIONS_OF.values() for collection in collections} == set(Collection)


def test_a_collection_is_timed_or_of_one_entry_for_all_modalities_that_share_it() -> None:
    for spec in MODALITIES.values():
        assert spec.timed == bool(TIMED_COLLECTIONS & set(spec.collections))
        assert spec.single_entry == bool(SINGLE_ENTRY_COLLECTIONS & set(spec.collections))


def test_timed_media_have_segments_and_so_have_documents() -> None:
    assert {*TIMED_MODALITIES, Modality.DOCUMENT} == SEGMENTED_MODALITIES
    assert {*TIMED_COLLECTIONS, Collection.TEXT, Collection.PAGE} == SEGMENTED_COLLECTIONS
    assert not SEGMENTED_COLLECTIONS & SINGLE_ENTRY_COLLECTIONS


def test_images_within_media_have_thumbnails() -> None:
    assert VISUAL_COLLECTIONS - {Collection.IMAGE} == THUMBNAIL_COLLECTIONS


def test_every_modality_without_segments_has_a_decoder() -> None:
    assert set(DECODERS) == set(Modality) - SEGMENTED_MODALITIES


def test_every_modality_has_a_topic_and_a_known_good_item() -> None:
    assert set(KafkaSettings().topics().values()) == set(Modality)
    assert all(known_good.sample(modality) for modality in Modality)


def test_canaries_are_of_modalities_that_are_indexed_in_one_batch() -> None:
    assert set(MEDIA) <= set(Modality) - SEGMENTED_MODALITIES
