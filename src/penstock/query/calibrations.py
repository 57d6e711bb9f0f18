"""Finds the calibration of an index, and refuses one that was fitted to other encoders or index types.

A kept file that cannot be read must not stop a query plane, which answers without it: it is set aside, and the next
one is tried. For the file that `query.calibration` names it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from penstock.analysis import ANALYZER
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile, role_of
from penstock.encoders.questions import question_encoder
from penstock.errors import ConfigError
from penstock.query.fusion.calibration import Calibration, read_calibration
from penstock.records import FIELDS_OF, Channel, Field

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "encoders" / "profiles" / "calibrations"

# All return the cosines of whole vectors: what an approximate index misses changes no score of what it finds.
_EXACT_INDEXES = frozenset({"FLAT", "HNSW", "IVF_FLAT"})
# A broken file gets this suffix: nothing reads it, and it can still be examined.
BROKEN_SUFFIX = ".broken"
EXACT = "exact scores"
BM25 = "BM25"


def find_calibration(
    file: Path | None, data_dir: Path, profile: Profile, fingerprints: Mapping[str, Fingerprint], dense_index: str
) -> Calibration | None:
    """Returns the given calibration, or the first valid one of the data folder and the profile.

    One that is not valid for the index, or broken, is named in the log in one line. If none is left, None is returned:
    channels are then compared without labels.

    Args:
        file: the setting `query.calibration`.
        data_dir: of the settings.
        profile: of the index.
        fingerprints: of its encoders, by role.
        dense_index: type of the index of its vectors.

    Raises:
        ConfigError: the given file is missing, or not a calibration.
    """
    kept = kept_file(data_dir, profile)
    known = [candidate for candidate in (kept, SHIPPED / f"{_stem(profile)}.json") if candidate.is_file()]
    candidates = [file] if file else known
    encoders, index_types = channel_encoders(profile, fingerprints), channel_index_types(dense_index)
    for left, candidate in zip(reversed(range(len(candidates))), candidates, strict=True):
        then = "The next one is tried" if left else "Searches compare channels without labels"
        try:
            calibration = read_calibration(candidate)
        except ConfigError as exc:
            if file:
                raise
            set_aside = f"; it is now {aside.name}" if candidate == kept and (aside := _set_aside(kept)) else ""
            logger.warning("%s%s. %s", exc, set_aside, then)
            continue
        questions = None if calibration.clicked is None else question_encoder(profile, fingerprints)
        reason = calibration.matches(encoders, index_types, questions)
        if reason is None:
            logger.info("calibration: %s, fitted to %d questions", candidate, calibration.provenance.labels)
            return calibration.with_borrowed(encoders)  # the file may be older than a collection
        logger.warning("the calibration %s is not used: %s. %s", candidate, reason, then)
    return None


def _set_aside(file: Path) -> Path | None:
    """Renames a broken file; returns None if that fails, also because another replica did it first."""
    aside = file.with_name(f"{file.name}{BROKEN_SUFFIX}")
    try:
        return file.replace(aside)
    except OSError:
        return None


def kept_file(data_dir: Path, profile: Profile) -> Path:
    """Returns the file in which `penstock train calibration` keeps the calibration of a profile."""
    return data_dir / "calibration" / f"{_stem(profile)}.json"


def channel_encoders(profile: Profile, fingerprints: Mapping[str, Fingerprint]) -> Mapping[Channel, str]:
    """Returns what decides the scores of each channel: the encoders of its entries and questions, or the analyzer."""
    return {
        Channel(collection, field): _encoders(Channel(collection, field), profile, fingerprints)
        for collection in profile.vectors
        for field in FIELDS_OF[collection]
    }


def channel_index_types(dense_index: str) -> Mapping[Channel, str]:
    """Returns the index type of each channel; those that return the same scores have the same one."""
    dense = EXACT if dense_index in _EXACT_INDEXES else dense_index
    return {
        Channel(collection, field): BM25 if field is Field.LEXICAL else dense
        for collection, fields in FIELDS_OF.items()
        for field in fields
    }


def _encoders(channel: Channel, profile: Profile, fingerprints: Mapping[str, Fingerprint]) -> str:
    if channel.field is Field.LEXICAL:
        return f"{BM25} of {ANALYZER}"
    of_entries = profile.vectors[channel.collection][channel.field]
    of_questions = role_of(profile.query_encoder(channel.field, channel.collection))
    return " + ".join(" ".join(astuple(fingerprints[role])) for role in dict.fromkeys((of_entries, of_questions)))


def _stem(profile: Profile) -> str:
    return Path(profile.name).stem
