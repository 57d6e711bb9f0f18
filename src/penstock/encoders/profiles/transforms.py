"""Adds a transform to a profile: vectors of a model, and then a map of them, are another model.

NAME+passage=FILE    every vector in the space of the sentence encoder is transformed
NAME+joint=FILE      every vector in the space of the images
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

from penstock.encoders.profiles.spec import MappedSpace, Profile
from penstock.encoders.transform import about_of, load_transform
from penstock.errors import ConfigError

TransformedRole: TypeAlias = Literal["passage", "joint"]
TRANSFORMED_ROLES: tuple[TransformedRole, ...] = ("passage", "joint")

_SUFFIX = re.compile(r"(?P<profile>.+?)\+(?P<role>passage|joint)=(?P<file>.+)")


@dataclass(frozen=True, slots=True)
class TransformChoice:
    """The transform that a profile's name adds: the model whose space it maps, and its file."""

    role: TransformedRole
    file: Path


def split_transform(name: str) -> tuple[str, TransformChoice | None]:
    """Splits the setting `profile` into the profile without a transform, and the transform; None if it has none."""
    match = _SUFFIX.fullmatch(name)
    if match is None:
        return name, None
    return match["profile"], TransformChoice(cast(TransformedRole, match["role"]), Path(match["file"]))


def join_transform(name: str, choice: TransformChoice | None) -> str:
    """Returns the setting `profile` with a transform: the reverse of `split_transform`."""
    return name if choice is None else f"{name}+{choice.role}={choice.file.expanduser().absolute()}"


def transformed_profile(profile: Profile, choice: TransformChoice) -> Profile:
    """Returns a profile whose vectors of one space are transformed.

    Raises:
        ConfigError: the file cannot be read, or the transform takes vectors of another length or maps one side only.
    """
    transform = load_transform(choice.file)
    if about_of(transform).get("side") in ("query", "document"):
        raise ConfigError(
            f"the transform {choice.file} was fitted to map one side, and an index maps questions and documents alike: "
            "train it with --side both, or promote it if it maps questions (docs/adapters.md)"
        )
    space = (profile.passage if choice.role == "passage" else profile.joint).space
    if transform.input_dim != space.dim:
        raise ConfigError(
            f"the transform {choice.file} takes vectors of {transform.input_dim} dimensions, and those of "
            f"{profile.name} in the space {space.id} have {space.dim}"
        )
    return replace(profile, mapped=MappedSpace(space.id, transform))
