"""Two versions of an index with null encoders of different sizes, whose entries say which version they are of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from penstock.config import Settings
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoders, profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.records import Collection, EncoderInput, Entry, Field
from penstock.store.base import Store
from penstock.store.spec import index_spec
from penstock.versions import Phase, Reindex
from tests.serve.sample_index import entry

OLD, NEW = "null:32", "null:48"
REINDEX = Reindex(
    from_version=1,
    to_version=2,
    profile=NEW,
    group="penstock.v2",
    started_ms=0,
    phase=Phase.READY,
    settings={"profile": NEW, "store": {"version": 2}, "kafka": {"group": "penstock.v2"}},
)
QUESTIONS = tuple(f"heron number {number}" for number in range(20))


@lru_cache(maxsize=4)
def encoders_of(profile: str) -> dict[str, Encoder]:
    """Returns the encoders of a profile by role."""
    return dict(load_encoders(load_profile(profile)))


def fill_version(store: Store, settings: Settings, texts: Sequence[str] = QUESTIONS) -> None:
    """Provisions the version of the settings and writes the texts, each an asset whose attributes name the version."""
    profile, version = load_profile(settings.profile), settings.store.version
    store.ensure(index_spec(profile, profile_fingerprints(profile), settings.store))
    encoders = encoders_of(settings.profile)
    store.upsert(Collection.TEXT, [_entry(text, version, encoders) for text in texts])


def _entry(text: str, version: int, encoders: dict[str, Encoder]) -> Entry:
    def vector(role: str) -> Any:
        return encoders[role].encode(EncoderInput(role, ("k",), texts=(text,))).vectors[0]

    bare = entry(Collection.TEXT, text, text=text, end_char=len(text), attributes_json=json.dumps({"version": version}))
    return replace(bare, vectors={Field.PASSAGE: vector("passage.text"), Field.JOINT: vector("joint.text")})


def versions_in(answer: dict[str, Any]) -> set[int]:
    """Returns the versions that an answer of `/v1/search` consists of: those of its hits, and the one it names."""
    return {int(answer["index_version"]), *_of_hits(answer["hits"])}


def _of_hits(hits: Iterable[dict[str, Any]]) -> Iterable[int]:
    return (int(hit["attributes"]["version"]) for hit in hits)
