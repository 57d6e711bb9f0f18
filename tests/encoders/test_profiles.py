from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest

from penstock.encoders.clip import check_preprocessing, image_spec_of
from penstock.encoders.profiles import (
    ClipSpec,
    SentenceSpec,
    load_profile,
    profile_names,
    role_of,
)
from penstock.errors import ConfigError
from penstock.records import Collection, Field
from tests.encoders.conftest import Run

ALL = [*profile_names(), "null", "null:512", "random:ViT-B-32"]


def test_profiles_and_tokenizer_load_without_torch(run_python: Run) -> None:
    code = (
        "import sys\n"
        "from penstock.encoders.load import profile_fingerprints\n"
        "from penstock.encoders.profiles import load_profile\n"
        "from penstock.encoders.tokenizer import load_tokenizer\n"
        "profile = load_profile('random:ViT-B-32')\n"
        "assert load_tokenizer(profile).count(['two words']) == [2]\n"
        "assert profile_fingerprints(profile)\n"
        "load_profile('reference'), load_profile('null'), load_profile('small'), load_profile('gpu')\n"
        "print(sorted({'torch', 'transformers', 'open_clip', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stderr


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'big'.*reference, small, gpu"):
        load_profile("big")


@pytest.mark.parametrize("name", ["null:0", "null:40000", "null:x", "random:", "random:NoSuchNet", "Reference"])
def test_a_malformed_profile_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        load_profile(name)


@pytest.mark.parametrize("name", ALL)
def test_every_dense_field_is_filled_by_an_encoder_that_the_profile_has(name: str) -> None:
    profile = load_profile(name)
    for collection, fields in profile.vectors.items():
        assert Field.LEXICAL not in fields
        for role in fields.values():
            assert role in profile.roles
            assert profile.space(role).dim > 0
        assert re.fullmatch(r"[a-z0-9_]+", profile.slug(collection))


@pytest.mark.parametrize("name", ALL)
def test_pictures_and_the_joint_field_of_texts_share_one_space(name: str) -> None:
    profile = load_profile(name)
    roles = {fields[Field.JOINT] for fields in profile.vectors.values() if Field.JOINT in fields}
    assert len({profile.space(role) for role in roles}) == 1


def test_reference_brings_texts_into_the_pictures_space_with_the_sentence_encoder() -> None:
    profile = load_profile("reference")
    assert profile.roles == ("passage.text", "joint.image")
    assert profile.joint_text_encoder == "passage.text"
    assert profile.space("joint.image") == profile.space("passage.text")
    assert profile.vectors[Collection.TEXT] == {Field.PASSAGE: "passage.text", Field.JOINT: "passage.text"}


def test_reference_says_what_it_is_and_what_to_take_instead() -> None:
    notice = load_profile("reference").notice
    assert notice is not None
    assert "reference" in notice
    assert "--profile small" in notice
    assert load_profile("small").notice is None


def test_a_collection_of_two_models_is_named_for_both() -> None:
    profile = load_profile("small")
    assert profile.slug(Collection.TEXT) == "minilm_l6_vit_b_32_laion2b"
    assert profile.slug(Collection.IMAGE) == "vit_b_32_laion2b"
    assert profile.slug(Collection.SPEECH) == "minilm_l6"


def test_a_role_that_the_profile_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reference has no encoder 'joint.text'; it has passage.text, joint.image"):
        load_profile("reference").model("joint.text")


def test_queries_are_marked_only_for_a_model_with_a_prompt_for_them() -> None:
    profile = load_profile("reference")
    assert profile.query_encoder(Field.PASSAGE) == profile.query_encoder(Field.JOINT) == "passage.text"
    assert isinstance(profile.passage, SentenceSpec)
    prompted = replace(profile, passage=replace(profile.passage, query_prompt="query: "))
    assert prompted.query_encoder(Field.PASSAGE) == "passage.query"
    assert role_of("passage.query") == "passage.text"
    assert load_profile("small").query_encoder(Field.JOINT) == "joint.text"


@pytest.mark.parametrize("name", ["small", "gpu"])
def test_the_joint_model_is_as_open_clip_has_it(name: str) -> None:
    model = load_profile(name).joint
    assert isinstance(model, ClipSpec)
    config = open_clip.get_model_config(model.architecture)
    assert config["embed_dim"] == model.space.dim
    tagged = open_clip.get_pretrained_cfg(model.architecture, model.tag)
    assert tagged["hf_hub"].rstrip("/") == model.source.repo  # type: ignore[union-attr]
    defaults = {
        "size": config["vision_cfg"]["image_size"],
        "fill_color": 0,
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
    }
    check_preprocessing(
        model, image_spec_of({**defaults, **{key: value for key, value in tagged.items() if value is not None}})
    )


def test_the_reference_tower_is_as_training_writes_it(tower_folder: Path) -> None:
    found = json.loads((tower_folder / "open_clip_config.json").read_text())
    model = load_profile("reference").joint
    assert isinstance(model, ClipSpec)
    assert found["model_cfg"]["embed_dim"] == model.space.dim
    check_preprocessing(model, image_spec_of({"fill_color": 0, **found["preprocess_cfg"]}))


def test_a_random_profile_takes_dimension_and_size_from_open_clip() -> None:
    profile = load_profile("random:ViT-L-14-336")
    assert profile.image.size_px == 336
    assert profile.space("joint.image").dim == 768
