"""Fetches packages with the clients of the machine, and unpacks them without installing anything."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lz4.frame

LANGUAGES = ("en", "de", "fr", "es", "it", "pt_BR", "ru", "ja", "zh_CN")


class MissingPackageError(Exception):
    """A package cannot be fetched: its client is not on this machine, or does not reach its registry."""


class Packages:
    """The packages of a folder; those that are missing are fetched.

    Args:
        folder: holds the archives, and beside them what was unpacked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def debian(self, name: str) -> Path:
        """Returns the root folder of an unpacked Debian package.

        Raises:
            MissingPackageError: it cannot be fetched.
        """
        root = self._folder / "unpacked" / name
        if root.is_dir():
            return root
        archives = self._folder / "debian"
        if not list(archives.glob(f"{name}_*.deb")):
            archives.mkdir(parents=True, exist_ok=True)
            _run(["apt-get", "--quiet", "--quiet", "download", name], archives)
        unfinished = root.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        _run(["dpkg-deb", "--extract", str(next(archives.glob(f"{name}_*.deb"))), str(unfinished)], archives)
        return unfinished.rename(root)

    def npm(self, name: str, version: str) -> Path:
        """Returns the folder `package` of an unpacked npm package. Errors as `debian`."""
        label = f"{name.lstrip('@').replace('/', '-')}-{version}"
        root = self._folder / "unpacked" / label
        if root.is_dir():
            return root / "package"
        archives = self._folder / "npm"
        archive = archives / f"{label}.tgz"
        if not archive.is_file():
            archives.mkdir(parents=True, exist_ok=True)
            _run(["npm", "pack", "--silent", f"{name}@{version}"], archives)
        unfinished = root.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(archive) as content:
            content.extractall(unfinished, filter="data")
        return unfinished.rename(root) / "package"

    def descriptions(self) -> Mapping[str, Path]:
        """Returns the files of Debian's package descriptions by language, as apt fetches them."""
        lists = self._folder / "lists"
        if not any(lists.glob("*_i18n_Translation-*")):
            (lists / "partial").mkdir(parents=True, exist_ok=True)
            options = {"Dir::State::lists": str(lists.resolve()), "Acquire::Languages": ",".join(LANGUAGES)}
            settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
            _run(["apt-get", "--quiet", "--quiet", *settings, "update"], lists)
        files = {language: _translation(lists, language) for language in LANGUAGES}
        return {language: file for language, file in files.items() if file is not None}


def read_stanzas(file: Path) -> Iterator[Mapping[str, str]]:
    """Yields the paragraphs of a Debian control file as fields; continuation lines keep their line ends."""
    raw = file.read_bytes()
    content = lz4.frame.decompress(raw) if file.suffix == ".lz4" else raw
    for paragraph in content.decode("utf-8", errors="replace").split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.split("\n"):
            if line.startswith(" ") and name:
                fields[name] += "\n" + line[1:]
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def _translation(lists: Path, language: str) -> Path | None:
    """Returns the file of a language in the archive, whose updates have smaller ones; apt writes `_` as `%5f`."""
    escaped = language.replace("_", "%5f")
    files = lists.glob(f"*_main_i18n_Translation-{escaped}*")
    return max(files, key=lambda file: file.stat().st_size, default=None)


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as exc:
        raise MissingPackageError(f"{command[0]} is not on this machine") from exc
    except subprocess.CalledProcessError as exc:
        reason = (exc.stderr or exc.stdout).strip().splitlines()
        raise MissingPackageError(f"`{' '.join(command)}` failed: {reason[-1] if reason else exc.returncode}") from exc
