"""Profiles: named sets of models, one for each role. No torch: decode workers, store and command line read them too.

reference, small, gpu   files of this folder; docs/models.md has the keys
PATH.toml               such a file that a user writes
null[:DIM]              hashes instead of models, for tests and benchmarks of the transport
random:ARCHITECTURE     any architecture of open_clip with random weights, for benchmarks
"""

from __future__ import annotations

import re
from pathlib import Path

from penstock.encoders.profiles.profile_file import read_profile
from penstock.encoders.profiles.spec import (
    JOINT_IMAGE,
    JOINT_TEXT,
    PASSAGE_QUERY,
    PASSAGE_TEXT,
    SPEECH,
    ClipSpec,
    CrossEncoderSpec,
    EncoderSpec,
    MaxSimSpec,
    NullSpec,
    NullSpeechSpec,
    Profile,
    RerankSpec,
    SentenceSpec,
    SpeechSpec,
    clip_image_spec,
    role_of,
)
from penstock.encoders.profiles.synthetic import NULL_DIM, null_profile, random_profile
from penstock.errors import ConfigError

_HERE = Path(__file__).parent
_NAMES = ("reference", "small", "gpu")


def load_profile(name: str) -> Profile:
    """Returns the profile of a name, or the one that a TOML file holds.

    Args:
        name: the setting `profile`. A relative path starts at the current folder.

    Raises:
        ConfigError: there is none, and the message lists those there are; or the file has an error, in one line that
            names file, key, value and what is allowed.
    """
    if name in _NAMES:
        return read_profile(_HERE / f"{name}.toml", name)
    if name.endswith(".toml"):
        return read_profile(Path(name).expanduser(), name)
    if match := re.fullmatch(r"null(?::(\d{1,6}))?", name):
        return null_profile(name, int(match[1] or NULL_DIM))
    if match := re.fullmatch(r"random:(.+)", name):
        return random_profile(name, match[1], load_profile("reference"))
    raise ConfigError(
        f"there is no profile {name!r}; use one of {', '.join(_NAMES)}, or the path of a TOML file "
        "(or, for benchmarks, null[:DIM] or random:ARCHITECTURE)"
    )


def profile_names() -> tuple[str, ...]:
    """Returns the profiles that ship with the package and are meant for users."""
    return _NAMES


__all__ = [
    "JOINT_IMAGE",
    "JOINT_TEXT",
    "PASSAGE_QUERY",
    "PASSAGE_TEXT",
    "SPEECH",
    "ClipSpec",
    "CrossEncoderSpec",
    "EncoderSpec",
    "MaxSimSpec",
    "NullSpec",
    "NullSpeechSpec",
    "Profile",
    "RerankSpec",
    "SentenceSpec",
    "SpeechSpec",
    "clip_image_spec",
    "load_profile",
    "profile_names",
    "role_of",
]
