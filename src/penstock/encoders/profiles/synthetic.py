"""Profiles without trained weights: hashes for tests, random weights for benchmarks."""

from __future__ import annotations

import re

from penstock.encoders.base import ImageSpec, Space
from penstock.encoders.profiles.open_clip_configs import architecture
from penstock.encoders.profiles.spec import ClipSpec, NullSpec, NullSpeechSpec, Profile, clip_image_spec
from penstock.encoders.weights import RandomWeights
from penstock.errors import ConfigError

NULL_DIM = 64
MAX_DIM = 32_768  # Milvus' limit


def null_profile(name: str, dim: int) -> Profile:
    """Returns the profile of the null encoders.

    Raises:
        ConfigError: Milvus cannot store vectors of that length.
    """
    if not 1 <= dim <= MAX_DIM:
        raise ConfigError(f"profile {name}: a null encoder has 1 to {MAX_DIM} dimensions")
    image = ImageSpec(8, "squash", "bilinear", 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Profile(
        name=name,
        notice="The null encoders hash instead of understanding: for tests and benchmarks only.",
        joint=NullSpec("null-joint", Space(f"null-joint-{dim}", dim), image),
        passage=NullSpec("null-passage", Space(f"null-passage-{dim}", dim), image),
        joint_text_encoder="joint.text",
        joint_slug=f"null_{dim}",
        passage_slug=f"null_{dim}",
        speech=NullSpeechSpec(),
    )


def random_profile(name: str, architecture_name: str, reference: Profile, seed: int = 0) -> Profile:
    """Returns the profile of an architecture of open_clip with random weights.

    Args:
        name: of the profile.
        architecture_name: as open_clip has it.
        reference: its sentence encoder, with trained weights, is taken over.
        seed: of the weights.

    Raises:
        ConfigError: open_clip has no such architecture, or its images are not square.
    """
    try:
        config = architecture(architecture_name)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    if config.size_px is None:
        raise ConfigError(f"profile {name}: the images of {architecture_name} are not square, which is not supported")
    tag = f"random-{seed}"
    return Profile(
        name=name,
        notice=f"{architecture_name} has random weights here: its figures mean speed, its results mean nothing.",
        joint=ClipSpec(
            architecture_name,
            tag,
            RandomWeights(seed),
            Space(f"{architecture_name}/{tag}", config.dim),
            clip_image_spec(config.size_px),
        ),
        passage=reference.passage,
        joint_text_encoder="joint.text",
        joint_slug=re.sub(r"\W+", "_", f"{architecture_name}_{tag}").lower(),
        passage_slug=reference.passage_slug,
        speech=None,
    )
