"""Fetches the weights of a profile without loading a model: for images, init containers and volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from penstock.encoders.profiles import Profile
from penstock.encoders.weights import FolderWeights, HubWeights, OnDisk, PackageWeights, locate


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of weights that is on this machine.

    Attributes:
        model: its name.
        path: of the file.
        size_bytes: of the file.
    """

    model: str
    path: str
    size_bytes: int


def fetch_weights(profile: Profile) -> Iterator[Fetched]:
    """Yields each file of weights of the profile once it is on this machine: found, or fetched from the hub.

    Raises:
        ConfigError, UnavailableError: as `locate` does.
    """
    for model, source in dict.fromkeys(_sources(profile, profile.name)):
        located = locate(source, model)
        yield Fetched(model, str(located.weights), located.size_bytes)


def _sources(node: object, model: str) -> Iterator[tuple[str, OnDisk]]:
    """Yields the sources anywhere in a specification, each with the name of the model that it belongs to."""
    if isinstance(node, FolderWeights | HubWeights | PackageWeights):
        yield model, node
    elif isinstance(node, tuple):
        for item in node:
            yield from _sources(item, model)
    elif is_dataclass(node):
        name = getattr(node, "name", model)
        for field in fields(node):
            yield from _sources(getattr(node, field.name), name)
