"""Installs packages without code into a folder, as pip would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


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
