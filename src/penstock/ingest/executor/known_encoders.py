"""Looks up the encoders of the index, for decode workers that receive vectors with events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import astuple
from functools import cache

from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError
from penstock.media.given_vectors import KnownEncoder

logger = logging.getLogger(__name__)


def known_encoders(profile: Profile) -> Callable[[], Mapping[str, KnownEncoder]]:
    """Returns a function that returns the encoders of a profile by role.

    It needs the files of models, which a node that decodes does not need for other events. Without them there are none.
    """

    @cache
    def known() -> Mapping[str, KnownEncoder]:
        from penstock.encoders.load import profile_fingerprints

        try:
            fingerprints = profile_fingerprints(profile)
        except PenstockError as exc:
            logger.warning("vectors that come with events are computed again: %s", exc)
            return {}
        return {
            role: KnownEncoder("/".join(astuple(identity)), profile.space(role).dim)
            for role, identity in fingerprints.items()
        }

    return known
