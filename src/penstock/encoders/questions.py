"""Names the encoder of questions, whose vectors are compared with those of other questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple

from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import PASSAGE_TEXT, Profile
from penstock.records import Field


def question_encoder(profile: Profile, fingerprints: Mapping[str, Fingerprint]) -> str:
    """Returns what decides the cosine of two questions: how they are encoded, and by which model.

    Args:
        profile: of the encoders.
        fingerprints: by role.
    """
    return f"{profile.query_encoder(Field.PASSAGE)} by {' '.join(astuple(fingerprints[PASSAGE_TEXT]))}"


def question_dim(profile: Profile) -> int:
    """Returns the dimension of the vectors of questions."""
    return profile.space(PASSAGE_TEXT).dim
