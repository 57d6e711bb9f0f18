from __future__ import annotations

from dataclasses import replace

from penstock.config import SpeechSettings, VideoSettings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import load_profile
from penstock.media.segments.settings_hash import settings_hash

IMAGE = load_profile("reference").image
TRANSCRIBER = Fingerprint("whisper", "weights", "preprocessing")
# Checkpoints in stores have it: with another one, timed media in progress start again after an upgrade.
OF_DEFAULTS = "748a4b633b09f60b"


def test_the_hash_of_the_defaults_stays() -> None:
    assert settings_hash(SpeechSettings(), VideoSettings(), IMAGE, TRANSCRIBER) == OF_DEFAULTS


def test_every_determinant_changes_the_hash() -> None:
    hashes = {
        settings_hash(SpeechSettings(), VideoSettings(), IMAGE, TRANSCRIBER),
        settings_hash(SpeechSettings(min_silence_ms=101), VideoSettings(), IMAGE, TRANSCRIBER),
        settings_hash(SpeechSettings(), VideoSettings(min_shot_ms=501), IMAGE, TRANSCRIBER),
        settings_hash(SpeechSettings(), VideoSettings(), replace(IMAGE, size_px=7), TRANSCRIBER),
        settings_hash(SpeechSettings(), VideoSettings(), IMAGE, replace(TRANSCRIBER, weights="others")),
    }
    assert len(hashes) == 5
