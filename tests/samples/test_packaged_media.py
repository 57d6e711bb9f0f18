"""Tests the list of media that other packages ship."""

from __future__ import annotations

from dataclasses import replace

from penstock.records import Modality
from penstock.samples.packaged_media import installed_media, packaged_media


def test_every_file_has_a_key_a_licence_and_a_hash_of_its_own() -> None:
    media = packaged_media()
    assert len({row.key for row in media}) == len({row.sha256 for row in media}) == len(media)
    assert all(row.licence and row.credit and len(row.sha256) == 64 for row in media)
    assert sum(row.modality is Modality.IMAGE for row in media) >= 20


def test_a_title_does_not_tell_what_a_photograph_shows() -> None:
    for media in packaged_media():
        subject = media.key.split("-")[-1]
        assert subject not in media.title.split(" of ")[-1]


def test_files_of_an_installed_package_are_found() -> None:
    """scikit-learn is always installed: the sentence encoder's library needs it."""
    assert {"photo-pagoda", "photo-flower"} <= {media.key for media, _ in installed_media()}


def test_a_missing_package_and_other_bytes_leave_the_file_out() -> None:
    media = next(row for row in packaged_media() if row.package == "scikit-learn")
    assert media.path() is not None
    assert replace(media, package="no-such-package-of-media").path() is None
    assert replace(media, sha256="0" * 64).path() is None
