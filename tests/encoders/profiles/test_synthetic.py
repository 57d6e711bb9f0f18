from __future__ import annotations

import pytest

from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError


@pytest.mark.parametrize("name", ["null:0", "null:40000", "null:x", "random:", "random:NoSuchNet"])
def test_a_malformed_synthetic_profile_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        load_profile(name)


def test_an_architecture_that_open_clip_lacks_is_refused_with_examples() -> None:
    with pytest.raises(ConfigError, match=r"no architecture 'NoSuchNet'.*such as ViT-"):
        load_profile("random:NoSuchNet")


def test_a_random_profile_takes_dimension_and_size_from_open_clip() -> None:
    profile = load_profile("random:ViT-L-14-336")
    assert profile.image.size_px == 336
    assert profile.space("joint.image").dim == 768
