"""Derives the requirements on the collections from a profile and the fingerprints of its loaded encoders."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.config import StoreSettings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile
from penstock.store.base import IndexSpec, VectorSpec


def index_spec(profile: Profile, fingerprints: Mapping[str, Fingerprint], settings: StoreSettings) -> IndexSpec:
    """Returns the requirements on the collections.

    Each plane derives its own from the encoders that it has loaded, so a mismatch is detected at start.

    Args:
        profile: says which encoder fills which field.
        fingerprints: of the loaded encoders, by role. A collection that needs another encoder is left out: a plane that
            indexes only images has no sentence encoder.
        settings: shards and version of the collections.
    """
    vectors = {
        collection: {field: VectorSpec(profile.space(role), fingerprints[role]) for field, role in fields.items()}
        for collection, fields in profile.vectors.items()
        if fingerprints.keys() >= set(fields.values())
    }
    slugs = {collection: profile.slug(collection) for collection in vectors}
    return IndexSpec(vectors, slugs, settings.version, settings.num_shards, profile.lexical)
