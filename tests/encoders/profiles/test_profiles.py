from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest

from penstock.encoders import load
from penstock.encoders.clip import check_preprocessing, image_spec_of
from penstock.encoders.load import fingerprint, speech_fingerprint
from penstock.encoders.profiles import ClipSpec, load_profile
from penstock.encoders.weights import HubWeights
from penstock.errors import ConfigError
from tests.encoders.conftest import Run


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


@pytest.mark.parametrize("name", ["big", "Reference", "small.TOM"])
def test_an_unknown_profile_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no profile '{name}'.*reference, shelf, small, gpu"):
        load_profile(name)


def test_reference_describes_itself_and_recommends_others() -> None:
    notice = load_profile("reference").notice
    assert notice is not None
    assert "reference" in notice
    assert "--profile small" in notice
    assert "\n" not in notice
    assert load_profile("small").notice is None


# Collections record these hashes, and a start with others is refused: a change would orphan every index.
PREPROCESSING = {
    ("reference", "passage.text"): "af173417ec1de1ae",
    ("reference", "joint.image"): "7c9ba002fa6361ca",
    ("small", "passage.text"): "3b9129b47f525ba2",
    ("small", "joint.image"): "d448098bd7743f3c",
    ("small", "joint.text"): "f5384d919800e4e7",
    ("gpu", "passage.text"): "cf19c2346ed8f526",
    ("gpu", "joint.image"): "d448098bd7743f3c",
    ("gpu", "joint.text"): "b58260eb44deb98f",
    ("null", "joint.image"): "3a8644a8b0d48869",
    ("random:ViT-B-32", "joint.text"): "53c327762d6b2e15",
}
MODELS = {
    "reference": ("sentence-transformers/all-MiniLM-L6-v2", "reference-tower/emoji", "reference-whisper"),
    "small": ("intfloat/multilingual-e5-small", "ViT-B-32-SigLIP2-256/webli", "base"),
    "gpu": ("BAAI/bge-m3", "ViT-L-16-SigLIP2-256/webli", "large-v3-turbo"),
}
WEIGHTS = {
    ("reference", "passage.text"): "53aa51172d142c89",
    ("reference", "joint.image"): "0a1dceef93345b9b",
    ("null", "joint.image"): "04e1521af7f4b17e",
    ("null:512", "joint.image"): "0d6b225d60bba96e",
    ("random:ViT-B-32", "joint.image"): "3d46f315d7c5d7c4",
}


@pytest.mark.parametrize(("name", "role"), PREPROCESSING)
def test_the_preprocessing_hash_of_a_profile_never_changes(
    name: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "weights_digest", lambda source, model: "no weights here")
    assert fingerprint(role, load_profile(name)).preprocessing == PREPROCESSING[name, role]


@pytest.mark.parametrize("name", MODELS)
def test_the_model_names_of_a_profile_never_change(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "weights_digest", lambda source, model: "no weights here")
    profile = load_profile(name)
    models = (*(fingerprint(role, profile).model for role in profile.roles[:2]), speech_fingerprint(profile).model)
    assert models == MODELS[name]
    expected = "bea5857398efcf0e" if name == "reference" else "fd675bec87937abc"
    assert speech_fingerprint(profile).preprocessing == expected


@pytest.mark.parametrize(("name", "role"), WEIGHTS)
def test_the_weights_hash_of_a_profile_never_changes(name: str, role: str) -> None:
    assert fingerprint(role, load_profile(name)).weights == WEIGHTS[name, role]


@pytest.mark.parametrize("name", ["small", "gpu"])
def test_the_joint_model_is_as_open_clip_has_it(name: str) -> None:
    model = load_profile(name).joint
    assert isinstance(model, ClipSpec)
    config = open_clip.get_model_config(model.architecture)
    assert isinstance(model.source, HubWeights)
    assert config["text_cfg"]["hf_tokenizer_name"] == model.source.repo
    assert "tokenizer.json" in model.source.companions
    assert config["embed_dim"] == model.space.dim
    tagged = open_clip.get_pretrained_cfg(model.architecture, model.tag)
    assert tagged["hf_hub"].rstrip("/") == model.source.repo  # type: ignore[union-attr]
    defaults = {
        "size": config["vision_cfg"]["image_size"],
        "fill_color": 0,
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
    }
    merged = {**defaults, **{key: value for key, value in tagged.items() if value is not None}}
    check_preprocessing(model, image_spec_of(merged))


def test_the_reference_tower_is_as_training_writes_it(tower_folder: Path) -> None:
    config = json.loads((tower_folder / "open_clip_config.json").read_text())
    model = load_profile("reference").joint
    assert isinstance(model, ClipSpec)
    assert config["model_cfg"]["embed_dim"] == model.space.dim
    check_preprocessing(model, image_spec_of({"fill_color": 0, **config["preprocess_cfg"]}))
