"""Tests which encoders a decode worker knows, for vectors that come with events."""

from __future__ import annotations

import logging
from dataclasses import astuple

import pytest

from penstock.encoders import load
from penstock.encoders.load import fingerprint
from penstock.encoders.profiles import Profile, load_profile
from penstock.errors import ConfigError
from penstock.ingest.executor.known_encoders import known_encoders


def test_the_encoders_of_a_profile_are_known_by_fingerprint_and_length() -> None:
    profile = load_profile("null:32")
    known = known_encoders(profile)()
    assert set(known) == set(profile.roles)
    for role, encoder in known.items():
        assert encoder.fingerprint == "/".join(astuple(fingerprint(role, profile)))
        assert encoder.dim == 32


def test_a_node_without_the_files_of_models_knows_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Profile] = []

    def missing(profile: Profile) -> None:
        calls.append(profile)
        raise ConfigError("there are no weights here")

    monkeypatch.setattr(load, "profile_fingerprints", missing)
    known = known_encoders(load_profile("null:32"))
    with caplog.at_level(logging.WARNING):
        assert known() == known() == {}
    assert len(calls) == 1
    assert "computed again" in caplog.text
