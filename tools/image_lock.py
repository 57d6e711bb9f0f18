"""Selects the packages of requirements.lock that an image needs, with their hashes, and splits them into layers.

    python tools/image_lock.py runtime|heavy|embedded [--without NAME ... | --only NAME ...]

Those of the extra `tracing` are of the runtime; those of tests and lint are left out. Runs without other packages, in
the first stage of `deploy/Dockerfile`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
# What changes rarely and is most of an image: torch, and the libraries of CUDA that it loads.
_HEAVY = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned package of a lock file.

    Attributes:
        name: normalised.
        text: its lines, with version, marker and hashes.
        via: the packages that require it.
    """

    name: str
    text: str
    via: frozenset[str]


def read_pins(lock: str) -> list[Pin]:
    """Returns the packages of a lock file that `uv pip compile --generate-hashes` wrote, in order."""
    blocks: list[list[str]] = []
    for line in lock.splitlines():
        if _NAME.match(line):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    return [_pin(block) for block in blocks]


def required_by(pins: Iterable[Pin], roots: Collection[str]) -> set[str]:
    """Returns the names of the roots and of all that they require, directly or not."""
    pins = list(pins)
    names = {_normalised(root) for root in roots}
    while more := {pin.name for pin in pins if pin.via & names} - names:
        names |= more
    return names


def select_layer(pins: Iterable[Pin], project: dict[str, list[str]], layer: str) -> list[Pin]:
    """Returns the packages of a layer: heavy, runtime (the rest of what both planes need) or embedded (the demo's)."""
    pins = list(pins)
    runtime = required_by(pins, _names(project["dependencies"]))
    if layer == "embedded":
        names = required_by(pins, _names(project["embedded"])) - runtime
    else:
        names = {name for name in runtime if (_HEAVY.match(name) is not None) == (layer == "heavy")}
    return [pin for pin in pins if pin.name in names]


def main() -> None:
    """Prints the packages of a layer as a requirements file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layer", choices=["heavy", "runtime", "embedded"])
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="leave these packages out")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="leave all others out")
    options = parser.parse_args()
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    roots = {"dependencies": project["dependencies"] + extras["tracing"], "embedded": extras["embedded"]}
    pins = select_layer(read_pins(Path("requirements.lock").read_text("utf-8")), roots, options.layer)
    selected = [pin for pin in pins if pin.name not in options.without and pin.name in (options.only or [pin.name])]
    sys.stdout.write("".join(pin.text for pin in selected))


def _pin(block: list[str]) -> Pin:
    comments = [line.strip().removeprefix("#").strip() for line in block if line.strip().startswith("#")]
    via = (comment.removeprefix("via").strip() for comment in comments)
    text = "\n".join(line for line in block if not line.strip().startswith("#"))
    match = _NAME.match(block[0])
    name = match[1] if match else ""
    return Pin(_normalised(name), text.rstrip() + "\n", frozenset(_normalised(word) for word in via if word))


def _names(requirements: Iterable[str]) -> set[str]:
    return {match[1] for requirement in requirements if (match := _NAME.match(requirement))}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
