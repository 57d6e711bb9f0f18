"""Installs packages without code into a folder, as pip would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def install(site: Path, package: str, files: Mapping[str, bytes], version: str = "1.0") -> None:
    """Writes files and metadata of a package, whose module fails when it is imported."""
    names = dict(files)
    module = package.replace("-", "_")
    names[f"{module}/__init__.py"] = b"raise AssertionError('imported')"
    info = f"{module}-{version}.dist-info"
    names[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
    names[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in names).encode()
    for name, content in names.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def hide(site: Path, package: str) -> None:
    """Makes a package look as if it were not installed, although a later folder of the path may have it."""
    for folder in (*site.glob(f"{package.replace('-', '_')}*"),):
        shutil.rmtree(folder)
    install(site, package, {})


def shelf_files(tables: object) -> dict[str, list[str]]:
    """Returns, by package, the files that a profile's tables name, with the files that their loaders need besides."""
    files: dict[str, list[str]] = {}
    for weights in _weights(tables):
        for part in weights.get("parts") or [f"{weights['package']}:{weights['file']}"]:
            package, _, path = part.partition(":")
            folder = path.rpartition("/")[0]
            files.setdefault(package, []).extend([path, f"{folder}/config.json", f"{folder}/tokenizer.json"])
    return files


def _weights(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "package" in value and "repo" not in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _weights(part)
