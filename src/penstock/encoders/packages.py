"""Finds files in installed packages by the packages' metadata. No package is imported: none of their code runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from penstock.errors import ConfigError

_BLOCK_BYTES = 1 << 20
_MAX_MOVES = 8  # into a place that other processes may fill in the meantime


def installed_version(package: str) -> str | None:
    """Returns the version of an installed package, else None."""
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return None


def find_file(package: str, path: str) -> Path | None:
    """Returns a file of an installed package, else None.

    Args:
        package: its name, as `pip install` takes it.
        path: of the file as the package lists it, such as `some_module/model/model.bin`.
    """
    try:
        located = Path(str(distribution(package).locate_file(PurePosixPath(path))))
    except PackageNotFoundError:
        return None
    return located.resolve() if located.is_file() else None


def file_sha256(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal. A file is read once per process, unless its time or size changes."""
    status = path.stat()
    return _read_sha256(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_sha256(path: Path, _mtime_ns: int, _size_bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join_parts(parts: Sequence[Path], companions: Sequence[Path], name: str, sha256: str) -> Path:
    """Returns the file that the parts give together, in a folder of the user's cache beside copies of the companions.

    The folder appears complete or not at all, so that processes may join the same parts concurrently. Every call checks
    it, and one that is damaged, or lacks a companion, is made again.

    Args:
        parts: in order.
        companions: files that the model's loader expects beside the weights.
        name: of the joined file.
        sha256: of the joined file.

    Raises:
        ConfigError: the parts do not give that hash, or the cache cannot be written.
    """
    folder = _cache_folder() / _folder_name(sha256, companions)
    joined = folder / name
    expected = {name: sha256} | {companion.name: file_sha256(companion) for companion in companions}
    if _holds(folder, expected):
        return joined
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".joining-", dir=folder.parent) as parent:
            scratch = Path(parent) / folder.name
            scratch.mkdir()
            _write_joined(parts, scratch / name, sha256)
            for companion in companions:
                shutil.copyfile(companion, scratch / companion.name)
            _move_to(folder, scratch, expected, Path(parent))
    except OSError as exc:
        raise ConfigError(
            f"the parts of {name} cannot be joined in {folder.parent}: {exc.strerror or exc}. Make room, or point "
            "XDG_CACHE_HOME to another folder"
        ) from exc
    return joined


def _cache_folder() -> Path:
    return user_cache_path("penstock") / "weights"


def _folder_name(sha256: str, companions: Sequence[Path]) -> str:
    """Names the folder by its content: the weights' own hash, and one of the companions."""
    state = hashlib.sha256()
    for companion in companions:
        state.update(f"{companion.name}\0{file_sha256(companion)}\0".encode())
    return f"{sha256[:16]}-{state.hexdigest()[:8]}"


def _write_joined(parts: Sequence[Path], path: Path, sha256: str) -> None:
    state = hashlib.sha256()
    with path.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK_BYTES):
                    state.update(block)
                    target.write(block)
        target.flush()
        os.fsync(target.fileno())
    if state.hexdigest() != sha256:
        names = ", ".join(str(part) for part in parts)
        raise ConfigError(
            f"{names} give together the SHA-256 {state.hexdigest()}, not {sha256} as the profile has it; they are not "
            "used. Install the versions of requirements-shelf.lock"
        )


def _holds(folder: Path, expected: Mapping[str, str]) -> bool:
    """Returns whether a folder has all these files, by name, with these SHA-256."""
    try:
        return all(file_sha256(folder / name) == sha256 for name, sha256 in expected.items())
    except OSError:
        return False


def _move_to(folder: Path, scratch: Path, expected: Mapping[str, str], aside: Path) -> None:
    """Moves the scratch folder to its place, unless another process was faster; a damaged one there goes aside first.

    Both are renames, each of which one process wins, so that no process sees or removes half a folder.

    Raises:
        OSError: it cannot be moved.
    """
    for attempt in range(_MAX_MOVES):
        try:
            scratch.rename(folder)
            return
        except OSError:
            if _holds(folder, expected):
                return
            if attempt + 1 == _MAX_MOVES:
                raise
        with contextlib.suppress(FileNotFoundError):  # another process was faster to move it
            folder.rename(aside / f"damaged-{attempt}")
