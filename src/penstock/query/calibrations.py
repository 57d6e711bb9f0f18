"""Finds the calibration of an index, and refuses one that was fitted to other encoders or index types."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from penstock.analysis import ANALYZER
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile, role_of
from penstock.query.fusion.calibration import Calibration, read_calibration
from penstock.records import FIELDS_OF, Channel, Field

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "encoders" / "profiles" / "calibrations"

# Both return the cosines of whole vectors: what an approximate index misses changes no score of what it finds.
_EXACT_INDEXES = frozenset({"FLAT", "HNSW"})
EXACT = "exact scores"
BM25 = "BM25"


def find_calibration(
    file: Path | None, data_dir: Path, profile: Profile, fingerprints: Mapping[str, Fingerprint], dense_index: str
) -> Calibration | None:
    """Returns the first calibration there is: the given file, that of the data folder, that of the profile.

    One that is not valid for the index is named in the log in one line, and None is returned: channels are then
    compared without labels.

    Args:
        file: the setting `query.calibration`.
        data_dir: of the settings.
        profile: of the index.
        fingerprints: of its encoders, by role.
        dense_index: type of the index of its vectors.

    Raises:
        ConfigError: the file is missing or not a calibration.
    """
    known = [kept_file(data_dir, profile), SHIPPED / f"{_stem(profile)}.json"]
    chosen = file or next((candidate for candidate in known if candidate.is_file()), None)
    if chosen is None:
        return None
    calibration = read_calibration(chosen)
    reason = calibration.matches(channel_encoders(profile, fingerprints), channel_index_types(dense_index))
    if reason is None:
        logger.info("calibration: %s, fitted to %d questions", chosen, calibration.provenance.labels)
        return calibration
    logger.warning("the calibration %s is not used: %s. Searches compare channels without labels", chosen, reason)
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
