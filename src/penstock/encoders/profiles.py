"""The profiles: which models make which vectors. No torch here: decode workers, store and command line read this too.

reference           offline, for first runs and tests; ships with the package
small               good on a CPU
gpu                 for a GPU
null[:DIM]          hashes instead of models, for tests and benchmarks of the transport
random:ARCHITECTURE any architecture of open_clip with random weights, for benchmarks
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from penstock.encoders.base import ImageSpec, Space
from penstock.encoders.reference.image_model import CHECKPOINT_NAME, TOWER_DIR
from penstock.encoders.reference.speech_model import SPEECH_DIR, SPEECH_MODEL
from penstock.encoders.weights import FolderWeights, HubWeights, InstalledWeights, RandomWeights, Source
from penstock.errors import ConfigError
from penstock.records import FIELDS_OF, VISUAL_COLLECTIONS, Collection, Field

PASSAGE_TEXT = "passage.text"
PASSAGE_QUERY = "passage.query"
JOINT_TEXT = "joint.text"
JOINT_IMAGE = "joint.image"
SPEECH = "speech"

REFERENCE_NOTICE = (
    "These are Penstock's reference models, tiny ones for first runs and tests. "
    "For real use take `--profile small` (CPU) or `--profile gpu`."
)

# What open_clip uses where a checkpoint names nothing else (open_clip.constants).
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_SENTENCE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SENTENCE_FILES = ("*.json", "*.txt", "*.model")

NULL_DIM = 64
_LARGEST_NULL_DIM = 32_768  # Milvus' limit


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """Two towers of open_clip, or of the reference profile the image tower alone.

    Attributes:
        architecture: open_clip's name of it (`ViT-B-32`); for a shipped one a name of ours.
        tag: which of its weights (`laion2b_s34b_b79k`).
        source: where they come from.
        space: the space of its vectors.
        image: what it takes; compared at load with what open_clip says of it.
    """

    architecture: str
    tag: str
    source: Source
    space: Space
    image: ImageSpec

    @property
    def name(self) -> str:
        return f"{self.architecture}/{self.tag}"


@dataclass(frozen=True, slots=True)
class SentenceSpec:
    """A model of sentence-transformers.

    Attributes:
        name: `organisation/name`.
        source: where its weights come from.
        space: the space of its vectors.
        max_tokens: longer texts are cut off there, special tokens included.
        passage_prompt, query_prompt: put before every passage or query, for models that were trained so (E5).
    """

    name: str
    source: Source
    space: Space
    max_tokens: int
    passage_prompt: str = ""
    query_prompt: str = ""


@dataclass(frozen=True, slots=True)
class NullSpec:
    """A hash instead of a model. Pictures are asked for as small as can be."""

    name: str
    space: Space
    image: ImageSpec


@dataclass(frozen=True, slots=True)
class SpeechSpec:
    """A Whisper as CTranslate2 keeps it, which faster-whisper runs.

    Attributes:
        name: faster-whisper's name of it.
        source: where its weights come from.
        cpu_type: CTranslate2's number format on a CPU: 8-bit integers are twice as fast for models of real size.
        any_length: it has learned windows of any length, so that a clip costs what it lasts. OpenAI's models have not:
            each of their windows is padded to 30 s.
    """

    name: str
    source: Source
    cpu_type: Literal["float32", "int8"] = "int8"
    any_length: bool = False


@dataclass(frozen=True, slots=True)
class NullSpeechSpec:
    """A hash instead of an ear: words that stand for the sound, for tests and benchmarks of the transport."""

    name: str = "null-speech"


EncoderSpec: TypeAlias = ClipSpec | SentenceSpec | NullSpec


@dataclass(frozen=True, slots=True)
class Profile:
    """The models of both planes.

    Attributes:
        name: what `--profile` takes.
        notice: a sentence that everything which shows results must show too; None if there is nothing to warn of.
        joint: the model whose space pictures are in.
        passage: the sentence encoder.
        joint_text_encoder: the encoder that brings texts into the pictures' space. In `reference` it is the sentence
            encoder, whose space the pictures share.
        joint_slug, passage_slug: short names of the two models, for physical collections.
        speech: the model that hears speech; None: the profile has none.
        rerank: name of the model for reranking; None: the profile has none.
    """

    name: str
    notice: str | None
    joint: ClipSpec | NullSpec
    passage: SentenceSpec | NullSpec
    joint_text_encoder: Literal["joint.text", "passage.text"]
    joint_slug: str
    passage_slug: str
    speech: SpeechSpec | NullSpeechSpec | None
    rerank: str | None

    @property
    def roles(self) -> tuple[str, ...]:
        """The encoders that have to be loaded: `passage.text`, `joint.image`, and `joint.text` if it is another."""
        return tuple(dict.fromkeys((PASSAGE_TEXT, JOINT_IMAGE, self.joint_text_encoder)))

    @property
    def image(self) -> ImageSpec:
        """What the decode pool has to make of a picture."""
        return self.joint.image

    @property
    def vectors(self) -> Mapping[Collection, Mapping[Field, str]]:
        """For each collection and dense field the role of the encoder that fills it."""
        return {
            collection: {field: self._role(collection, field) for field in fields if field is not Field.LEXICAL}
            for collection, fields in FIELDS_OF.items()
        }

    def model(self, role: str) -> EncoderSpec:
        """The model behind a role.

        Raises:
            ConfigError: the profile has no such encoder.
        """
        if role not in self.roles:
            raise ConfigError(f"profile {self.name} has no encoder {role!r}; it has {', '.join(self.roles)}")
        return self.passage if role == PASSAGE_TEXT else self.joint

    def space(self, role: str) -> Space:
        """The space of an encoder's vectors."""
        return self.model(role).space

    def query_encoder(self, field: Field) -> str:
        """What `EncoderInput.encoder` has to say for a text query on a field.

        `passage.query` where the sentence encoder wants queries marked; it is the same loaded encoder as
        `passage.text` (see `role_of`). Never for `LEXICAL`, which takes the text itself.
        """
        role = self.joint_text_encoder if field is Field.JOINT else PASSAGE_TEXT
        marked = isinstance(self.passage, SentenceSpec) and self.passage.query_prompt != self.passage.passage_prompt
        return PASSAGE_QUERY if marked and role == PASSAGE_TEXT else role

    def slug(self, collection: Collection) -> str:
        """Short name of the models that fill a collection, for `image__<slug>__v1`: letters, digits, underscores."""
        slots = {PASSAGE_TEXT: self.passage_slug, JOINT_IMAGE: self.joint_slug, JOINT_TEXT: self.joint_slug}
        return "_".join(dict.fromkeys(slots[role] for role in self.vectors[collection].values()))

    def _role(self, collection: Collection, field: Field) -> str:
        if field is Field.PASSAGE:
            return PASSAGE_TEXT
        return JOINT_IMAGE if collection in VISUAL_COLLECTIONS else self.joint_text_encoder


def role_of(encoder: str) -> str:
    """The role of the loaded encoder that answers an `EncoderInput.encoder`."""
    return PASSAGE_TEXT if encoder == PASSAGE_QUERY else encoder


def load_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name in _NAMED:
        return _NAMED[name]()
    if found := re.fullmatch(r"null(?::(\d{1,6}))?", name):
        return _null(name, int(found[1] or NULL_DIM))
    if found := re.fullmatch(r"random:(.+)", name):
        return _random(name, found[1])
    raise ConfigError(
        f"there is no profile {name!r}; take one of {', '.join(_NAMED)} (or, for benchmarks, null[:DIM] or "
        "random:ARCHITECTURE)"
    )


def profile_names() -> tuple[str, ...]:
    """The profiles that a person chooses from."""
    return tuple(_NAMED)


def clip_image_spec(size_px: int) -> ImageSpec:
    """The preprocessing of OpenAI's CLIP, which most checkpoints of open_clip keep."""
    return ImageSpec(size_px, "shortest", "bicubic", 0, _OPENAI_MEAN, _OPENAI_STD)


def _minilm() -> SentenceSpec:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    repository = HubWeights(name, _SENTENCE_WEIGHTS, ("modules.json", "tokenizer.json"), _SENTENCE_FILES)
    return SentenceSpec(name, InstalledWeights("model.safetensors", repository), Space("all-MiniLM-L6-v2", 384), 256)


def _whisper(name: str, repository: str) -> SpeechSpec:
    """As converted by the authors of faster-whisper (faster_whisper.utils)."""
    files = ("config.json", "tokenizer.json"), ("*.json", "vocabulary.*")
    return SpeechSpec(name, HubWeights(repository, ("model.bin",), *files))


def _reference() -> Profile:
    passage = _minilm()
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    tower = ClipSpec(
        "reference-tower",
        "emoji",
        FolderWeights(TOWER_DIR, CHECKPOINT_NAME),
        passage.space,
        ImageSpec(64, "shortest", "bicubic", 0, half, quarter),
    )
    return Profile(
        name="reference",
        notice=REFERENCE_NOTICE,
        joint=tower,
        passage=passage,
        joint_text_encoder="passage.text",
        joint_slug="reference_tower",
        passage_slug="minilm_l6",
        speech=SpeechSpec("reference-whisper", FolderWeights(SPEECH_DIR, SPEECH_MODEL), "float32", any_length=True),
        rerank=None,
    )


def _small() -> Profile:
    clip = ClipSpec(
        "ViT-B-32",
        "laion2b_s34b_b79k",
        HubWeights("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", _CLIP_WEIGHTS),
        Space("ViT-B-32/laion2b_s34b_b79k", 512),
        clip_image_spec(224),
    )
    return Profile(
        name="small",
        notice=None,
        joint=clip,
        passage=_minilm(),
        joint_text_encoder="joint.text",
        joint_slug="vit_b_32_laion2b",
        passage_slug="minilm_l6",
        speech=_whisper("base", "Systran/faster-whisper-base"),
        rerank="cross-encoder/ms-marco-MiniLM-L6-v2",
    )


def _gpu() -> Profile:
    """ViT-L-14 of DataComp: the best ViT-L of CLIP's own kind at 224 px, 79.2 % zero-shot on ImageNet by its authors.

    SigLIP 2 is better still and multilingual, but its tokenizer is a second download through transformers, whose
    releases have broken open_clip's tokenizers before; CLIP's is inside open_clip. BGE-M3 speaks 100 languages, reads
    8,192 tokens and, unlike E5, wants no prompts, so that no caller can forget them.
    """
    clip = ClipSpec(
        "ViT-L-14",
        "datacomp_xl_s13b_b90k",
        HubWeights("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", _CLIP_WEIGHTS),
        Space("ViT-L-14/datacomp_xl_s13b_b90k", 768),
        clip_image_spec(224),
    )
    name = "BAAI/bge-m3"
    repository = HubWeights(name, _SENTENCE_WEIGHTS, ("modules.json", "tokenizer.json"), _SENTENCE_FILES)
    # 1,024 tokens: five times a passage; room for long queries, without the memory of 8,192.
    passage = SentenceSpec(name, repository, Space("bge-m3", 1024), 1024)
    return Profile(
        name="gpu",
        notice=None,
        joint=clip,
        passage=passage,
        joint_text_encoder="joint.text",
        joint_slug="vit_l_14_datacomp",
        passage_slug="bge_m3",
        speech=_whisper("large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
        rerank="BAAI/bge-reranker-v2-m3",
    )


def _null(name: str, dim: int) -> Profile:
    if not 1 <= dim <= _LARGEST_NULL_DIM:
        raise ConfigError(f"profile {name}: a null encoder has 1 to {_LARGEST_NULL_DIM} dimensions")
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
        rerank=None,
    )


def _random(name: str, architecture: str, seed: int = 0) -> Profile:
    config = _open_clip_config(architecture)
    size_px = config["vision_cfg"]["image_size"]
    if not isinstance(size_px, int):
        raise ConfigError(
            f"profile {name}: {architecture} takes pictures of {size_px} pixels, and only squares will do"
        )
    tag = f"random-{seed}"
    clip = ClipSpec(
        architecture,
        tag,
        RandomWeights(seed),
        Space(f"{architecture}/{tag}", int(config["embed_dim"])),
        clip_image_spec(size_px),
    )
    return Profile(
        name=name,
        notice=f"{architecture} has random weights here: its figures mean speed, its results mean nothing.",
        joint=clip,
        passage=_minilm(),
        joint_text_encoder="joint.text",
        joint_slug=re.sub(r"\W+", "_", f"{architecture}_{tag}").lower(),
        passage_slug="minilm_l6",
        speech=None,
        rerank=None,
    )


def _open_clip_config(architecture: str) -> Mapping[str, Any]:
    """Reads open_clip's own file of an architecture, without importing open_clip and thereby torch."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).with_name("model_configs")
    known = {file.stem: file for file in folder.glob("*.json")}
    if architecture not in known:
        some = ", ".join(sorted(stem for stem in known if stem.startswith("ViT-"))[:8])
        raise ConfigError(f"open_clip has no architecture {architecture!r}; it has {len(known)}, such as {some}")
    config: Mapping[str, Any] = json.loads(known[architecture].read_text(encoding="utf-8"))
    return config


_NAMED: Mapping[str, Callable[[], Profile]] = {"reference": _reference, "small": _small, "gpu": _gpu}
