"""The models of a profile, as data, and which role fills which field of which collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from penstock.encoders.base import ImageSpec, Runtime, Space
from penstock.encoders.profiles.media_spec import SOUND_AUDIO, SOUND_TEXT, CaptionSpec, OcrSpec, SoundSpec
from penstock.encoders.transform import Transform
from penstock.encoders.weights import PackageWeights, Source, missing_packages
from penstock.errors import ConfigError
from penstock.records import AUDIBLE_COLLECTIONS, FIELDS_OF, TEXT_COLLECTIONS, VISUAL_COLLECTIONS, Collection, Field

PASSAGE_TEXT = "passage.text"
PASSAGE_QUERY = "passage.query"
JOINT_TEXT = "joint.text"
JOINT_IMAGE = "joint.image"
SPEECH = "speech"
# The tables of a profile that decide what vectors an index holds: speech by the text that is encoded.
VECTOR_ROLES = ("joint", "passage", "speech", "sound")

ClassifierName: TypeAlias = Literal["efficientnet-lite0", "efficientnet-lite2"]

# The values of open_clip for checkpoints that give none of their own (open_clip.constants).
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """A CLIP model of open_clip: both towers, or in the reference profile the image tower alone.

    Attributes:
        architecture: open_clip's name of it (`ViT-B-32`); any name for a model in a folder.
        tag: the name of its weights (`laion2b_s34b_b79k`).
        source: of the weights.
        space: of its vectors.
        image: the preprocessing it expects; compared at load with open_clip's.
        zeros: values that follow its vectors, in the part of the second encoder, if the space is that of a pair of
            sentence encoders and the tower was trained into the first one's.
        runtime: what computes it on a CPU in fp32: torch, or NumPy, which can for the plain tower of a folder.
    """

    architecture: str
    tag: str
    source: Source
    space: Space
    image: ImageSpec
    zeros: int = 0
    runtime: Runtime = "torch"

    @property
    def name(self) -> str:
        """Returns architecture and tag."""
        return f"{self.architecture}/{self.tag}"


@dataclass(frozen=True, slots=True)
class ConseSpec:
    """An image classifier whose probabilities weight the text vectors of names (ConSE): see `encoders/conse.py`.

    Attributes:
        classifier: its name.
        source: of its weights.
        head: the file of its concept head.
        sentences: the sentence encoders that make up the space of the texts: one, or the two of a pair.
        names: for each of them, the file with the vectors of names.
        space: of the texts, and so of the images.
        image: the preprocessing that the classifier expects.
    """

    classifier: ClassifierName
    source: Source
    head: Path
    sentences: tuple[SentenceSpec, ...]
    names: tuple[Path, ...]
    space: Space
    image: ImageSpec

    @property
    def name(self) -> str:
        """Returns the method and the classifier."""
        return f"conse/{self.classifier}"


@dataclass(frozen=True, slots=True)
class SentenceSpec:
    """A sentence encoder.

    Attributes:
        name: `organisation/name`.
        source: of the weights.
        space: of its vectors.
        max_tokens: longer texts are truncated there, special tokens included.
        passage_prompt, query_prompt: put before every passage or query, for models that were trained that way (E5).
        languages: codes of ISO 639-1 of the languages it knows; None: many, or it is not known which.
        kind: a model of sentence-transformers, or the multilingual Universal Sentence Encoder (`use`).
        runtime: what computes it on a CPU in fp32: torch, or NumPy, which can for a plain BERT outside of a pair.
    """

    name: str
    source: Source
    space: Space
    max_tokens: int
    passage_prompt: str = ""
    query_prompt: str = ""
    languages: tuple[str, ...] | None = None
    kind: Literal["sentence_transformers", "use"] = "sentence_transformers"
    runtime: Runtime = "torch"


@dataclass(frozen=True, slots=True)
class SentencePairSpec:
    """Two sentence encoders, whose vectors stand one behind the other.

    Attributes:
        first: the better one for the languages that it knows.
        second: knows more languages.
        space: of the joined vectors.
    """

    first: SentenceSpec
    second: SentenceSpec
    space: Space

    @property
    def name(self) -> str:
        """Returns both names."""
        return f"{self.first.name} + {self.second.name}"

    @property
    def max_tokens(self) -> int:
        """Returns the tokens that both read, counted by the tokenizer of the first."""
        return self.first.max_tokens

    @property
    def languages(self) -> tuple[str, ...] | None:
        """Returns the languages that either knows."""
        if self.first.languages is None or self.second.languages is None:
            return None
        return tuple(sorted({*self.first.languages, *self.second.languages}))


@dataclass(frozen=True, slots=True)
class NullSpec:
    """A hash instead of a model. Its images are as small as possible."""

    name: str
    space: Space
    image: ImageSpec


@dataclass(frozen=True, slots=True)
class SpeechSpec:
    """A Whisper in CTranslate2's format, which faster-whisper runs.

    Attributes:
        name: faster-whisper's name of it.
        source: of the weights.
        cpu_type: CTranslate2's number format on a CPU: 8-bit integers are twice as fast for models of real size.
        any_length: it takes windows of any length, so that the cost of a clip follows its duration; else each of its
            windows is padded to 30 s, as OpenAI's models were trained.
        unknown_below: for a model of English alone: speech whose text has a mean logarithm of the tokens' probabilities
            below this, or repeats itself, is in a language that the model does not know. None: it is not examined.
    """

    name: str
    source: Source
    cpu_type: Literal["float32", "int8"] = "int8"
    any_length: bool = False
    unknown_below: float | None = None


@dataclass(frozen=True, slots=True)
class NullSpeechSpec:
    """A hash instead of a speech model: words derived from the audio, for tests and benchmarks of the transport."""

    name: str = "null-speech"


@dataclass(frozen=True, slots=True)
class MaxSimSpec:
    """Reranking by late interaction over the token vectors of the profile's sentence encoder. Has no weights."""

    name: str = "maxsim"


@dataclass(frozen=True, slots=True)
class CrossEncoderSpec:
    """A cross-encoder of sentence-transformers, which reads query and passage together.

    Attributes:
        name: `organisation/name`.
        source: of the weights.
        max_tokens: longer pairs are truncated there, special tokens included.
    """

    name: str
    source: Source
    max_tokens: int


PassageSpec: TypeAlias = SentenceSpec | SentencePairSpec
EncoderSpec: TypeAlias = ClipSpec | ConseSpec | SentenceSpec | SentencePairSpec | SoundSpec | NullSpec
RerankSpec: TypeAlias = MaxSimSpec | CrossEncoderSpec


@dataclass(frozen=True, slots=True)
class MappedSpace:
    """The id of a space, and what maps its vectors."""

    space_id: str
    transform: Transform


@dataclass(frozen=True, slots=True)
class Profile:
    """The models of both planes.

    Attributes:
        name: the setting `profile`: a name, or the path of a file.
        notice: a sentence to show wherever results are shown; None if there is nothing to warn of.
        joint: the model that encodes images: a CLIP model, or a classifier.
        passage: the sentence encoder.
        joint_text_encoder: the encoder that brings texts into the images' space. In `reference` it is the sentence
            encoder, whose space the images share.
        joint_slug, passage_slug: short names of the two models, for physical collections.
        speech: the speech model; None: the profile has none.
        rerank: the model that reorders the best hits; None: the profile has none.
        ocr, caption: the models that read and describe images; None: the profile has none.
        sound: the model that encodes sounds; None: the profile has none, and the index no collection `sound`.
        chosen: the name of the alternative by role, for roles of which the profile's file gives several.
        substitutions: for each role that lacks its first choice here, a line that says what is used instead.
        mapped: the space whose vectors a transform maps; None: none are.
    """

    name: str
    notice: str | None
    joint: ClipSpec | ConseSpec | NullSpec
    passage: PassageSpec | NullSpec
    joint_text_encoder: Literal["joint.text", "passage.text"]
    joint_slug: str
    passage_slug: str
    speech: SpeechSpec | NullSpeechSpec | None
    rerank: RerankSpec | None = None
    ocr: OcrSpec | None = None
    caption: CaptionSpec | None = None
    sound: SoundSpec | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    substitutions: tuple[str, ...] = ()
    mapped: MappedSpace | None = field(default=None, compare=False)

    @property
    def languages(self) -> tuple[str, ...] | None:
        """Returns the languages that the sentence encoder knows, as codes of ISO 639-1; None: many, or not known."""
        return None if isinstance(self.passage, NullSpec) else self.passage.languages

    @property
    def roles(self) -> tuple[str, ...]:
        """Returns the encoders to load.

        They are `passage.text`, `joint.image`, `joint.text` if it is another, and `sound.audio` and `sound.text`.
        """
        sound = () if self.sound is None else (SOUND_AUDIO, SOUND_TEXT)
        return tuple(dict.fromkeys((PASSAGE_TEXT, JOINT_IMAGE, self.joint_text_encoder, *sound)))

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """Returns the packages that its weights need, have no other source for, and lack here."""
        return _missing_packages(self)

    @property
    def missing_packages_of_vectors(self) -> tuple[str, ...]:
        """Returns those of them without which an index cannot be continued as it began (`VECTOR_ROLES`)."""
        return tuple(dict.fromkeys(name for role in VECTOR_ROLES for name in self.missing_packages_of(role)))

    def missing_packages_of(self, role: str) -> tuple[str, ...]:
        """Returns those of them that one table of the profile's file names: `joint`, `ocr` and so on."""
        return _missing_packages(getattr(self, role))

    @property
    def image(self) -> ImageSpec:
        """Returns the preprocessing of images that the decode workers carry out."""
        return self.joint.image

    @property
    def vectors(self) -> Mapping[Collection, Mapping[Field, str]]:
        """Returns, for each collection and dense field, the role of the encoder that fills it."""
        return {
            collection: {field: self._role(collection, field) for field in fields if field is not Field.LEXICAL}
            for collection, fields in FIELDS_OF.items()
            if self.has(collection)
        }

    def has(self, collection: Collection) -> bool:
        """Returns whether its models can fill a collection: `sound` only if it has the role."""
        return self.sound is not None or collection not in AUDIBLE_COLLECTIONS

    @property
    def lexical(self) -> frozenset[Collection]:
        """Returns the collections with the field `LEXICAL`: images and pages only where a model writes text of them."""
        worded = frozenset(name for name, fields in FIELDS_OF.items() if Field.LEXICAL in fields)
        return worded if self.ocr or self.caption else TEXT_COLLECTIONS

    def fields(self, collection: Collection) -> tuple[Field, ...]:
        """Returns the vector fields of a collection, the most important first."""
        if not self.has(collection):
            return ()
        without = frozenset() if collection in self.lexical else {Field.LEXICAL}
        return tuple(field for field in FIELDS_OF[collection] if field not in without)

    def model(self, role: str) -> EncoderSpec:
        """Returns the model behind a role.

        Raises:
            ConfigError: the profile has no such encoder.
        """
        if role not in self.roles:
            raise ConfigError(f"profile {self.name} has no encoder {role!r}; it has {', '.join(self.roles)}")
        if role in (SOUND_AUDIO, SOUND_TEXT):
            assert self.sound is not None
            return self.sound
        return self.passage if role == PASSAGE_TEXT else self.joint

    def space(self, role: str) -> Space:
        """Returns the space of an encoder's vectors."""
        space, transform = self.model(role).space, self.transform_of(role)
        return space if transform is None else Space(f"{space.id}+{transform.fingerprint}", transform.output_dim)

    def transform_of(self, role: str) -> Transform | None:
        """Returns what maps the vectors of an encoder; None if nothing does."""
        space_id = self.model(role).space.id
        return self.mapped.transform if self.mapped is not None and self.mapped.space_id == space_id else None

    def query_encoder(self, field: Field, collection: Collection | None = None) -> str:
        """Returns the value of `EncoderInput.encoder` for a text query on a field, of any collection but `sound`.

        For `sound` the collection has to be given.

        `passage.query` where the sentence encoder wants queries marked; it is the same loaded encoder as
        `passage.text` (see `role_of`). Never for `LEXICAL`, which takes the text itself.
        """
        if collection in AUDIBLE_COLLECTIONS:
            return SOUND_TEXT
        role = self.joint_text_encoder if field is Field.JOINT else PASSAGE_TEXT
        return PASSAGE_QUERY if role == PASSAGE_TEXT and self._marks_queries else role

    @property
    def _marks_queries(self) -> bool:
        if isinstance(self.passage, SentencePairSpec):
            return True
        return isinstance(self.passage, SentenceSpec) and self.passage.query_prompt != self.passage.passage_prompt

    def slug(self, collection: Collection) -> str:
        """Returns a short name of the models that fill a collection: letters, digits, underscores.

        The physical collection is named after it: `image__<slug>__v1`.
        """
        if collection in AUDIBLE_COLLECTIONS and self.sound is not None:
            return self.sound.slug
        slugs = {PASSAGE_TEXT: self.passage_slug, JOINT_IMAGE: self.joint_slug, JOINT_TEXT: self.joint_slug}
        roles = tuple(self.vectors[collection].values())
        mapped = dict.fromkeys(
            f"t{transform.fingerprint[:8]}" for role in roles if (transform := self.transform_of(role)) is not None
        )
        return "_".join((*dict.fromkeys(slugs[role] for role in roles), *mapped))

    def _role(self, collection: Collection, field: Field) -> str:
        if field is Field.PASSAGE:
            return PASSAGE_TEXT
        if collection in AUDIBLE_COLLECTIONS:
            return SOUND_AUDIO
        return JOINT_IMAGE if collection in VISUAL_COLLECTIONS else self.joint_text_encoder


def _missing_packages(value: object) -> tuple[str, ...]:
    missing = (package for source in _package_weights(value) for package in missing_packages(source))
    return tuple(dict.fromkeys(missing))


def _package_weights(value: object) -> Iterator[PackageWeights]:
    """Yields the weights from packages in a profile or a model, at any depth."""
    if isinstance(value, PackageWeights):
        yield value
    elif is_dataclass(value):
        for part in fields(value):
            yield from _package_weights(getattr(value, part.name))


def role_of(encoder: str) -> str:
    """Returns the role of the loaded encoder that answers an `EncoderInput.encoder`."""
    return PASSAGE_TEXT if encoder == PASSAGE_QUERY else encoder


def clip_image_spec(size_px: int) -> ImageSpec:
    """Returns the preprocessing of OpenAI's CLIP, which most checkpoints of open_clip keep."""
    return ImageSpec(size_px, "shortest", "bicubic", 0, OPENAI_MEAN, OPENAI_STD)
