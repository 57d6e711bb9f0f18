"""Tests of finding the calibration of an index, and of refusing one that does not fit it."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError
from penstock.query.calibrations import SHIPPED, channel_encoders, channel_index_types, find_calibration, kept_file
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
    read_calibration,
    write_calibration,
)
from penstock.records import Channel, Collection, Field

PROFILE = load_profile("null")
FINGERPRINTS = profile_fingerprints(PROFILE)
PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


def calibration(labels: int = 100) -> Calibration:
    encoders, index_types = channel_encoders(PROFILE, FINGERPRINTS), channel_index_types("FLAT")
    channels = {
        channel: ChannelCalibration(LogisticMap(1.0, 0.0), -5.0, 0.0, 1.0, encoders[channel], index_types[channel])
        for channel in (PASSAGE, LEXICAL)
    }
    collections = {Collection.TEXT: CollectionCalibration(-4.0)}
    return Calibration(channels, collections, Provenance({}, labels, 0, "null")).with_borrowed(encoders)


def test_the_given_file_comes_before_that_of_the_data_folder(tmp_path: Path) -> None:
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") is None
    write_calibration(calibration(20), kept_file(tmp_path, PROFILE))
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") == calibration(20)
    write_calibration(calibration(30), tmp_path / "given.json")
    assert find_calibration(tmp_path / "given.json", tmp_path, PROFILE, FINGERPRINTS, "FLAT") == calibration(30)


def test_pages_borrow_from_images_where_a_file_is_older_than_documents(tmp_path: Path) -> None:
    encoders, index_types = channel_encoders(PROFILE, FINGERPRINTS), channel_index_types("FLAT")
    image, page = Channel(Collection.IMAGE, Field.JOINT), Channel(Collection.PAGE, Field.JOINT)
    of_image = ChannelCalibration(LogisticMap(9.0, -2.0), -5.0, 0.0, 1.0, encoders[image], index_types[image])
    old = calibration()
    write_calibration(
        replace(
            old,
            channels={**old.channels, image: of_image},
            collections={**old.collections, Collection.IMAGE: CollectionCalibration(-3.0)},
        ),
        kept_file(tmp_path, PROFILE),
    )
    borrowing = find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT")
    assert borrowing is not None
    assert (borrowing.channels[page], borrowing.collections[Collection.PAGE]) == (of_image, CollectionCalibration(-3.0))
    assert borrowing.covers(page)
    assert borrowing.provenance.borrowed[Collection.PAGE] is Collection.IMAGE


@pytest.mark.parametrize("name", ["reference", "shelf"])
def test_the_shipped_calibrations_hold_for_pages(name: str) -> None:
    profile = load_profile(name)
    shipped = read_calibration(SHIPPED / f"{name}.json")
    page = Channel(Collection.PAGE, Field.JOINT)
    encoders = {channel: of_channel.encoder for channel, of_channel in shipped.channels.items()}
    borrowing = shipped.with_borrowed({**encoders, page: encoders[Channel(Collection.IMAGE, Field.JOINT)]})
    assert profile.vectors[Collection.PAGE][Field.JOINT] == profile.vectors[Collection.IMAGE][Field.JOINT]
    assert borrowing.covers(page)
    assert borrowing.collections[Collection.PAGE].relevance is not None


def test_an_index_that_returns_the_same_scores_counts_as_the_same(tmp_path: Path) -> None:
    write_calibration(calibration(), kept_file(tmp_path, PROFILE))
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "HNSW") == calibration()


def test_another_encoder_is_refused_in_one_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(calibration(), kept_file(tmp_path, PROFILE))
    others = {role: replace(fingerprint, weights="0" * 16) for role, fingerprint in FINGERPRINTS.items()}
    with caplog.at_level(logging.WARNING):
        assert find_calibration(None, tmp_path, PROFILE, others, "FLAT") is None
    (record,) = caplog.records
    assert "is not used: it was fitted with encoder" in record.message
    assert "without labels" in record.message


def test_a_kept_file_that_does_not_fit_leaves_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.query.calibrations.SHIPPED", tmp_path / "shipped")
    fits = calibration(30)
    old = {channel: replace(of_channel, encoder="old") for channel, of_channel in fits.channels.items()}
    write_calibration(Calibration(old, fits.collections, fits.provenance), kept_file(tmp_path, PROFILE))
    write_calibration(fits, tmp_path / "shipped" / kept_file(tmp_path, PROFILE).name)
    with caplog.at_level(logging.WARNING):
        assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") == fits
    (record,) = caplog.records
    assert "The next one is tried" in record.message
    assert find_calibration(kept_file(tmp_path, PROFILE), tmp_path, PROFILE, FINGERPRINTS, "FLAT") is None


def test_a_calibration_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept.json"
    write_calibration(calibration(20), file)
    assert list(tmp_path.iterdir()) == [file]

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_calibration(calibration(30), file)
    assert read_calibration(file) == calibration(20)


def test_a_broken_kept_file_is_set_aside_and_leaves_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.query.calibrations.SHIPPED", tmp_path / "shipped")
    kept = kept_file(tmp_path, PROFILE)
    write_calibration(calibration(30), tmp_path / "shipped" / kept.name)
    kept.parent.mkdir()
    kept.write_bytes(b'{"format": 1, "chann')
    with caplog.at_level(logging.WARNING):
        assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") == calibration(30)
    (record,) = caplog.records
    assert "is not a calibration" in record.message
    assert "null.json.broken. The next one is tried" in record.message
    assert "\n" not in record.message
    assert [file.name for file in kept.parent.iterdir()] == ["null.json.broken"]
    caplog.clear()
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") == calibration(30)
    assert not caplog.records


def test_a_broken_file_that_cannot_be_set_aside_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.query.calibrations.SHIPPED", tmp_path / "shipped")
    kept = kept_file(tmp_path, PROFILE)
    kept.parent.mkdir()
    kept.write_bytes(b"")

    def fail(self: Path, target: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "replace", fail)
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "FLAT") is None
    assert "Searches compare channels without labels" in caplog.text


def test_a_broken_given_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "given.json").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="is not a calibration"):
        find_calibration(tmp_path / "given.json", tmp_path, PROFILE, FINGERPRINTS, "FLAT")
    assert (tmp_path / "given.json").is_file()


def test_quantised_vectors_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(calibration(), kept_file(tmp_path, PROFILE))
    assert find_calibration(None, tmp_path, PROFILE, FINGERPRINTS, "IVF_RABITQ") is None
    assert re.search(r"index type exact scores of \w+\.\w+, and the index has IVF_RABITQ", caplog.text)


def test_a_missing_given_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        find_calibration(tmp_path / "none.json", tmp_path, PROFILE, FINGERPRINTS, "FLAT")


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda file: file.stem)
def test_a_shipped_calibration_fits_its_profile(file: Path) -> None:
    """Fails if an encoder or the analyzer changed: docs/relevance.md has the command to fit again."""
    profile = load_profile(file.stem)
    if profile.missing_packages or profile.substitutions:
        pytest.skip(f"the models of {profile.name} are not installed")
    shipped = read_calibration(file)
    encoders = channel_encoders(profile, profile_fingerprints(profile))
    assert shipped.matches(encoders, channel_index_types("FLAT")) is None
    assert shipped.provenance.profile == file.stem
    assert all(calibration.relevance is not None for calibration in shipped.collections.values())


def test_an_encoder_of_entries_and_one_of_questions_are_both_recorded() -> None:
    small = load_profile("small")
    fingerprints = {role: replace(next(iter(FINGERPRINTS.values())), model=role) for role in small.roles}
    encoders = channel_encoders(small, fingerprints)
    assert encoders[Channel(Collection.IMAGE, Field.JOINT)].count("joint") == 2
    assert encoders[PASSAGE].startswith("passage.text")
    assert encoders[LEXICAL].startswith("BM25 of")
