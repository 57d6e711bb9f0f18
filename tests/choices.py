"""Builds choices for tests of feedback."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.records import Action, AssetRef, Choice, Collection, Float32, bare_entry, question_digest
from penstock.records.events import digest_of

DIM = 16
ENCODER = "passage.query by words"
NOW_MS = 1_767_225_600_000
DAY_MS = 86_400_000


def question_vector(question: str) -> Float32:
    """Returns float32[DIM], L2-normalised: the mean of vectors of the words, so that shared words are close."""
    vector = np.sum([_word_vector(word) for word in question.split()], axis=0)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def choice(question: str, key: str, person: str = "ann", **fields: Any) -> Choice:
    """Returns a choice of the text of this key."""
    asset = AssetRef(fields.pop("tenant", "default"), fields.pop("topic", "media.text"), key)
    collection = fields.pop("collection", Collection.TEXT)
    defaults: dict[str, Any] = {
        "entry_id": bare_entry(asset, collection).id,
        "voter": digest_of(person),
        "question": question_digest(question),
        "vector": question_vector(question),
        "encoder": ENCODER,
        "action": Action.CLICK,
        "rank": 10,
        "shown": (),
        "time_ms": NOW_MS,
    }
    return Choice(asset=asset, collection=collection, **{**defaults, **fields})


def _word_vector(word: str) -> Float32:
    return np.random.default_rng(list(word.encode())).normal(size=DIM).astype(np.float32)
