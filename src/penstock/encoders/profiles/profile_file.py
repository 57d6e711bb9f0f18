"""Reads a profile from a TOML file. docs/models.md describes the keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from penstock.encoders.base import ImageSpec, Runtime, Space
from penstock.encoders.profiles.alternatives import ChosenTables, TomlContent, choose, every_table
from penstock.encoders.profiles.classifiers import FILES, conse_spec
from penstock.encoders.profiles.error_line import first_error
from penstock.encoders.profiles.media_tables import CaptionTable, OcrTable, SoundTable
from penstock.encoders.profiles.open_clip_configs import architecture
from penstock.encoders.profiles.spec import (
    OPENAI_MEAN,
    OPENAI_STD,
    ClassifierName,
    ClipSpec,
    ConseSpec,
    CrossEncoderSpec,
    MaxSimSpec,
    PassageSpec,
    Profile,
    RerankSpec,
    SentencePairSpec,
    SentenceSpec,
    SpeechSpec,
)
from penstock.encoders.profiles.synthetic import MAX_DIM
from penstock.encoders.profiles.weights_table import Name, TomlTable, Weights
from penstock.encoders.unigram import VOCABULARY
from penstock.errors import ConfigError

_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_CLIP_TOKENIZER = (("tokenizer.json", "tokenizer_config.json"), ("*.json", "tokenizer.model"))
_CLASSIFIER_FILES = ("weights.pth",)
_SENTENCE_FILES = ("model.safetensors", "pytorch_model.bin")
_SENTENCE_COMPANIONS = ("modules.json", "tokenizer.json")
_SENTENCE_PATTERNS = ("*.json", "*.txt", "*.model")
_USE_FILES = (("weights.npz",), (VOCABULARY,), ())
_CROSS_ENCODER_COMPANIONS = ("config.json", "tokenizer.json")
_SPEECH_FILES = ("model.bin",)
_SPEECH_COMPANIONS = ("config.json", "tokenizer.json")
_SPEECH_PATTERNS = ("*.json", "vocabulary.*")

_Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=64)]
_Dim = Annotated[int, Field(ge=1, le=MAX_DIM)]
_Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


# The tags of tables that a key takes one of. Pydantic puts them into the path of an error; no key is called so.
_CLIP, _CONSE, _ONE, _PAIR = "<clip>", "<conse>", "<one>", "<pair>"


class _Image(TomlTable):
    """The preprocessing of images. The defaults are those of OpenAI's CLIP, which most checkpoints keep."""

    size_px: Annotated[int, Field(ge=1)] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD


class _Clip(TomlTable):
    """The CLIP model."""

    kind: Literal["open_clip"] = "open_clip"
    architecture: Name
    pretrained: Name
    weights: Weights
    slug: _Slug | None = None
    space: Name | None = None
    dim: _Dim | None = None
    texts: Literal["joint", "passage"] = "joint"
    runtime: Runtime = "torch"
    image: _Image = _Image()

    @model_validator(mode="after")
    def _known_to_open_clip(self) -> _Clip:
        if self.weights.folder is None:
            architecture(self.architecture)
        return self

    @property
    def name(self) -> str:
        """Returns architecture and tag."""
        return f"{self.architecture}/{self.pretrained}"

    def spec(self, base: Path, passage: PassageSpec) -> ClipSpec:
        """Returns the model, where `passage` is the sentence encoder.

        Raises:
            ValueError: a key is missing that has no default, or the space is not the one that `texts` needs.
        """
        defaults = architecture(self.architecture) if self.weights.folder is None else None
        size_px = self.image.size_px or (None if defaults is None else defaults.size_px)
        if size_px is None:
            raise ValueError(f"joint.image.size_px is missing: it has no default for {self.architecture}")
        shared = self.texts == "passage"
        dim = self.dim or (passage.space.dim if shared else None if defaults is None else defaults.dim)
        if dim is None:
            raise ValueError(f"joint.dim is missing: it has no default for {self.architecture}")
        space = Space(self.space or (passage.space.id if shared else self.name), dim)
        if shared and space != passage.space:
            raise ValueError(
                f"joint.texts = 'passage' needs images in the space of the sentence encoder, {passage.space.id} of "
                f"{passage.space.dim} dimensions, not {space.id} of {space.dim}"
            )
        zeros = passage.second.space.dim if shared and isinstance(passage, SentencePairSpec) else 0
        settings = self.image.model_dump(exclude={"size_px"})
        # A repository that has its own tokenizer needs no other one.
        has_tokenizer = defaults is not None and defaults.tokenizer_repo == self.weights.repo is not None
        source = self.weights.source(base, _CLIP_FILES, *(_CLIP_TOKENIZER if has_tokenizer else ()))
        image = ImageSpec(size_px=size_px, **settings)
        return ClipSpec(self.architecture, self.pretrained, source, space, image, zeros, self.runtime)


class _Conse(TomlTable):
    """An image classifier whose images share the space of the sentence encoder."""

    kind: Literal["conse"]
    classifier: ClassifierName
    weights: Weights
    files: Name | None = None
    slug: _Slug | None = None
    texts: Literal["passage"] = "passage"

    @property
    def name(self) -> str:
        """Returns the method and the classifier."""
        return f"conse_{self.classifier}"

    def spec(self, base: Path, passage: PassageSpec) -> ConseSpec:
        """Returns the model, where `passage` is the sentence encoder."""
        source = self.weights.source(base, _CLASSIFIER_FILES)
        files = FILES if self.files is None else (base / Path(self.files).expanduser()).resolve()
        return conse_spec(self.classifier, source, passage, files)


def _joint_table(table: object) -> str:
    return _CONSE if isinstance(table, Mapping) and table.get("kind") == "conse" else _CLIP


_Joint = Annotated[Annotated[_Clip, Tag(_CLIP)] | Annotated[_Conse, Tag(_CONSE)], Discriminator(_joint_table)]


class _Sentence(TomlTable):
    """A sentence encoder."""

    kind: Literal["sentence_transformers", "use"] = "sentence_transformers"
    model: Name
    weights: Weights
    dim: _Dim
    max_tokens: Annotated[int, Field(ge=3)]
    slug: _Slug | None = None
    space: Name | None = None
    passage_prompt: str = ""
    query_prompt: str = ""
    languages: Literal["multilingual"] | Annotated[tuple[_Language, ...], Field(min_length=1)] | None = None
    runtime: Runtime = "torch"

    def spec(self, base: Path) -> SentenceSpec:
        """Returns the model."""
        files = _USE_FILES if self.kind == "use" else (_SENTENCE_FILES, _SENTENCE_COMPANIONS, _SENTENCE_PATTERNS)
        return SentenceSpec(
            self.model,
            self.weights.source(base, *files),
            Space(self.space or self.model.rpartition("/")[2], self.dim),
            self.max_tokens,
            self.passage_prompt,
            self.query_prompt,
            None if self.languages == "multilingual" else self.languages,
            self.kind,
            self.runtime,
        )


class _SentencePair(TomlTable):
    """Two sentence encoders, whose vectors stand one behind the other."""

    kind: Literal["pair"]
    first: _Sentence
    second: _Sentence
    slug: _Slug | None = None
    space: Name | None = None

    def spec(self, base: Path) -> SentencePairSpec:
        """Returns the pair."""
        first, second = self.first.spec(base), self.second.spec(base)
        space = self.space or f"{first.space.id} + {second.space.id}"
        return SentencePairSpec(first, second, Space(space, first.space.dim + second.space.dim))


def _passage_table(table: object) -> str:
    return _PAIR if isinstance(table, Mapping) and table.get("kind") == "pair" else _ONE


_Passage = Annotated[
    Annotated[_Sentence, Tag(_ONE)] | Annotated[_SentencePair, Tag(_PAIR)], Discriminator(_passage_table)
]


_TAGGED_TABLES: Mapping[str, type[TomlTable]] = {
    _CLIP: _Clip,
    _CONSE: _Conse,
    _ONE: _Sentence,
    _PAIR: _SentencePair,
}


class _Speech(TomlTable):
    """The speech model."""

    model: Name
    weights: Weights
    cpu_type: Literal["float32", "int8"] = "int8"
    any_length: bool = False
    unknown_below: Annotated[float, Field(lt=0)] | None = None

    def spec(self, base: Path) -> SpeechSpec:
        """Returns the model."""
        source = self.weights.source(base, _SPEECH_FILES, _SPEECH_COMPANIONS, _SPEECH_PATTERNS)
        return SpeechSpec(self.model, source, self.cpu_type, self.any_length, self.unknown_below)


class _Rerank(TomlTable):
    """The model that reorders the best hits: MaxSim, or a cross-encoder by name."""

    kind: Literal["maxsim", "cross_encoder"]
    model: Name | None = None
    weights: Weights | None = None
    max_tokens: Annotated[int, Field(ge=8)] = 512

    @model_validator(mode="after")
    def _complete(self) -> _Rerank:
        if self.kind == "cross_encoder" and (self.model is None or self.weights is None):
            raise ValueError("a cross_encoder needs model and weights")
        if self.kind == "maxsim" and self.model_fields_set != {"kind"}:
            raise ValueError("maxsim uses the sentence encoder of [passage] and has no other keys")
        return self

    def spec(self, base: Path) -> RerankSpec:
        """Returns the model."""
        if self.model is None or self.weights is None:
            return MaxSimSpec()
        source = self.weights.source(base, _SENTENCE_FILES, _CROSS_ENCODER_COMPANIONS, _SENTENCE_PATTERNS)
        return CrossEncoderSpec(self.model, source, self.max_tokens)


class _ProfileFile(TomlTable):
    """A whole file."""

    joint: _Joint
    passage: _Passage
    speech: _Speech | None = None
    rerank: _Rerank | None = None
    ocr: OcrTable | None = None
    caption: CaptionTable | None = None
    sound: SoundTable | None = None
    notice: str | None = None


def read_profile(file: Path, name: str, choices: Mapping[str, str] | None = None) -> Profile:
    """Reads a profile from a TOML file.

    Args:
        file: its path. Folders of weights in it are relative to the file.
        name: of the profile.
        choices: alternatives by role that are settled; for the other roles the first that is installed here is taken.

    Raises:
        ConfigError: the file is missing, no TOML, or has an error: one line that names file, key, value and what is
            allowed.
    """
    content = read_tables(file)
    try:
        selection = choose(content, choices or {}, name)
        for tables in every_table(content):
            _ProfileFile.model_validate(tables)
        return _profile(selection, file.absolute().parent, name)
    except ValidationError as exc:
        raise ConfigError(f"profile file {file}: {first_error(exc, _ProfileFile, _TAGGED_TABLES)}") from exc
    except ValueError as exc:
        raise ConfigError(f"profile file {file}: {exc}") from exc


def read_tables(file: Path) -> TomlContent:
    """Returns the content of a profile's file, unchecked.

    Raises:
        ConfigError: the file is missing, or no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"there is no profile file {file.absolute()}; check the setting profile") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the profile file {file} cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"the profile file {file} is not valid TOML: {exc}") from exc


def _profile(selection: ChosenTables, base: Path, name: str) -> Profile:
    tables = _ProfileFile.model_validate(selection.tables)
    passage = tables.passage.spec(base)
    passage_slug = tables.passage.slug or _slug(passage.space.id)
    return Profile(
        name=name,
        notice=tables.notice,
        joint=tables.joint.spec(base, passage),
        passage=passage,
        joint_text_encoder="passage.text" if tables.joint.texts == "passage" else "joint.text",
        joint_slug=_joint_slug(tables.joint, passage, passage_slug),
        passage_slug=passage_slug,
        speech=None if tables.speech is None else tables.speech.spec(base),
        rerank=None if tables.rerank is None else tables.rerank.spec(base),
        ocr=None if tables.ocr is None else tables.ocr.spec(base),
        caption=None if tables.caption is None else tables.caption.spec(base),
        sound=None if tables.sound is None else tables.sound.spec(base),
        chosen=selection.chosen,
        substitutions=selection.substitutions,
    )


def _joint_slug(joint: _Clip | _Conse, passage: PassageSpec, passage_slug: str) -> str:
    """Returns the short name of the images' model, with that of a pair in whose space the images are.

    One sentence encoder alone is not named, so that collections from before there were pairs keep their names.
    """
    slug = joint.slug or _slug(joint.name)
    in_pair = joint.texts == "passage" and isinstance(passage, SentencePairSpec)
    return f"{slug}_{passage_slug}" if in_pair else slug


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
