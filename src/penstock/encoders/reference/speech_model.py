"""Paths of the speech model of the `reference` profile: a folder that faster-whisper loads by itself."""

from __future__ import annotations

from pathlib import Path

SPEECH_DIR = Path(__file__).with_name("speech")
SPEECH_MODEL = "model.bin"
