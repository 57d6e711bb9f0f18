"""Profiles: named sets of models, one for each role. No torch: decode workers, store and command line read them too.

reference, shelf, small, gpu   files of this folder; docs/models.md has the keys
auto                    shelf where any of its packages is installed, else reference
PATH.toml               such a file that a user writes
NAME:role=alternative   a profile whose roles have alternatives, some of them settled: shelf:speech=tiny-en
NAME+passage=FILE       a profile whose vectors a transform maps (`transforms`)
null[:DIM]              hashes instead of models, for tests and benchmarks of the transport
random:ARCHITECTURE     any architecture of open_clip with random weights, for benchmarks
"""

from __future__ import annotations

import re
from pathlib import Path

from penstock.encoders.profiles.alternatives import join_choices, offers_packages, split_choices
from penstock.encoders.profiles.media_spec import (
    CAPTION,
    IMAGE_TEXT_ROLES,
    OCR,
    SOUND_AUDIO,
    SOUND_TEXT,
    CaptionSpec,
    OcrSpec,
    SoundSpec,
)
from penstock.encoders.profiles.profile_file import read_profile, read_tables
from penstock.encoders.profiles.spec import (
    JOINT_IMAGE,
    JOINT_TEXT,
    PASSAGE_QUERY,
    PASSAGE_TEXT,
    SPEECH,
    ClipSpec,
    ConseSpec,
    CrossEncoderSpec,
    EncoderSpec,
    MaxSimSpec,
    NullSpec,
    NullSpeechSpec,
    PassageSpec,
    Profile,
    RerankSpec,
    SentencePairSpec,
    SentenceSpec,
    SpeechSpec,
    clip_image_spec,
    role_of,
)
from penstock.encoders.profiles.synthetic import NULL_DIM, null_profile, random_profile
from penstock.encoders.profiles.transforms import (
    TRANSFORMED_ROLES,
    TransformChoice,
    join_transform,
    split_transform,
    transformed_profile,
)
from penstock.errors import ConfigError

_HERE = Path(__file__).parent
_NAMES = ("reference", "shelf", "small", "gpu")
AUTO = "auto"


def load_profile(name: str) -> Profile:
    """Returns the profile of a name, or the one that a TOML file holds.

    Args:
        name: the setting `profile`. A relative path starts at the current folder. Roles with alternatives for which
            it has no choice get the first one that is installed here.

    Raises:
        ConfigError: there is none, and the message lists those there are; or the file has an error, in one line that
            names file, key, value and what is allowed.
    """
    plain, transform = split_transform(name)
    if transform is not None:
        return transformed_profile(load_profile(plain), transform)
    base, choices = split_choices(name)
    if base == AUTO:
        base = "shelf" if offers_packages(read_tables(_shipped("shelf"))) else "reference"
    if base in _NAMES:
        return read_profile(_shipped(base), base, choices)
    if base.endswith(".toml"):
        return read_profile(Path(base).expanduser(), base, choices)
    if match := re.fullmatch(r"null(?::(\d{1,6}))?", name):
        return null_profile(name, int(match[1] or NULL_DIM))
    if match := re.fullmatch(r"random:(.+)", name):
        return random_profile(name, match[1], load_profile("reference"))
    raise ConfigError(
        f"there is no profile {name!r}; use auto, one of {', '.join(_NAMES)}, or the path of a TOML file "
        "(or, for benchmarks, null[:DIM] or random:ARCHITECTURE)"
    )


def _shipped(name: str) -> Path:
    return _HERE / f"{name}.toml"


def profile_names() -> tuple[str, ...]:
    """Returns the profiles that ship with the package and are meant for users."""
    return _NAMES


__all__ = [
    "AUTO",
    "CAPTION",
    "IMAGE_TEXT_ROLES",
    "JOINT_IMAGE",
    "JOINT_TEXT",
    "OCR",
    "PASSAGE_QUERY",
    "PASSAGE_TEXT",
    "SOUND_AUDIO",
    "SOUND_TEXT",
    "SPEECH",
    "CaptionSpec",
    "ClipSpec",
    "ConseSpec",
    "CrossEncoderSpec",
    "EncoderSpec",
    "MaxSimSpec",
    "NullSpec",
    "NullSpeechSpec",
    "OcrSpec",
    "PassageSpec",
    "Profile",
    "RerankSpec",
    "SentencePairSpec",
    "SentenceSpec",
    "SoundSpec",
    "SpeechSpec",
    "TRANSFORMED_ROLES",
    "TransformChoice",
    "clip_image_spec",
    "join_choices",
    "join_transform",
    "load_profile",
    "profile_names",
    "role_of",
    "split_choices",
    "split_transform",
]
