"""Tests the specification of the collections."""

from __future__ import annotations

from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.records import Collection
from penstock.store.spec import index_spec


def test_every_collection_is_named_if_all_encoders_are_loaded() -> None:
    profile = load_profile("null")
    spec = index_spec(profile, profile_fingerprints(profile), StoreSettings())
    assert spec.vectors.keys() == spec.model_slug.keys() == set(Collection) - {Collection.SOUND}


def test_a_plane_with_only_the_image_encoder_names_the_collections_of_images() -> None:
    profile = load_profile("null")
    fingerprints = {JOINT_IMAGE: profile_fingerprints(profile)[JOINT_IMAGE]}
    spec = index_spec(profile, fingerprints, StoreSettings())
    assert spec.vectors.keys() == spec.model_slug.keys() == {Collection.IMAGE, Collection.FRAME, Collection.PAGE}
