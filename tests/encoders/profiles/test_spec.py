from __future__ import annotations

import re
from dataclasses import replace

import pytest

from penstock.encoders.profiles import SentenceSpec, load_profile, profile_names, role_of
from penstock.errors import ConfigError
from penstock.records import Collection, Field

ALL = [*profile_names(), "null", "null:512", "random:ViT-B-32"]


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
def test_images_and_the_joint_field_of_texts_share_one_space(name: str) -> None:
    profile = load_profile(name)
    roles = {fields[Field.JOINT] for fields in profile.vectors.values() if Field.JOINT in fields}
    assert len({profile.space(role) for role in roles}) == 1


def test_reference_brings_texts_into_the_images_space_with_the_sentence_encoder() -> None:
    profile = load_profile("reference")
    assert profile.roles == ("passage.text", "joint.image")
    assert profile.joint_text_encoder == "passage.text"
    assert profile.space("joint.image") == profile.space("passage.text")
    assert profile.vectors[Collection.TEXT] == {Field.PASSAGE: "passage.text", Field.JOINT: "passage.text"}


def test_a_collection_of_two_models_is_named_for_both() -> None:
    profile = load_profile("small")
    assert profile.slug(Collection.TEXT) == "me5_small_vit_b_32_siglip2"
    assert profile.slug(Collection.IMAGE) == "vit_b_32_siglip2"
    assert profile.slug(Collection.SPEECH) == "me5_small"


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
    small = load_profile("small")
    assert (small.query_encoder(Field.PASSAGE), small.query_encoder(Field.JOINT)) == ("passage.query", "joint.text")


def test_images_have_words_only_where_a_model_writes_them() -> None:
    profile = load_profile("null")
    assert Field.LEXICAL not in profile.fields(Collection.IMAGE)
    for writer in (replace(profile, ocr=object()), replace(profile, caption=object())):
        assert writer.fields(Collection.IMAGE) == (Field.JOINT, Field.LEXICAL)
        assert Collection.FRAME not in writer.lexical
