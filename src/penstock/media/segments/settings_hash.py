"""Identifies the settings and models that determine the entries of timed media."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple

from penstock.config import SpeechSettings, VideoSettings
from penstock.encoders.base import Fingerprint, ImageSpec
from penstock.media.av.sound import SoundOptions


def settings_hash(
    speech: SpeechSettings,
    video: VideoSettings,
    image: ImageSpec,
    transcriber: Fingerprint,
    sound: tuple[Fingerprint, SoundOptions] | None = None,
) -> str:
    """Returns a hash, 16 hexadecimal digits, that a checkpoint records; a checkpoint with another one is not resumed.

    Only values count, in the order of their fields, so that checkpoints outlive the renaming of a setting.
    """
    values = (
        tuple(speech.model_dump(mode="json").values()),
        tuple(video.model_dump(mode="json").values()),
        astuple(image),
        astuple(transcriber),
        # Profiles without such an encoder keep the hash that they had before there was one.
        *(() if sound is None else (astuple(sound[0]), astuple(sound[1]))),
    )
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
