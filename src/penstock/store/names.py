"""Names of physical collections, such as `image__clip_vit_b32__v1`. The part before the first `__` is the alias."""

from __future__ import annotations

import re
from dataclasses import dataclass

from penstock.errors import ConfigError
from penstock.records import Collection

# The alias of the asset rows. Their physical collections are `asset__v1`, `asset__v2`: one for each version, because a
# reindex is a second consumer group, which decides for itself what is older than the events it has settled.
ASSET = "asset"

_NAME = re.compile(r"(?P<alias>[a-z]+)(__(?P<slug>[a-z0-9]+(_[a-z0-9]+)*))?__v(?P<version>[1-9]\d*)")


@dataclass(frozen=True, slots=True, order=True)
class PhysicalCollection:
    """The parsed name of a physical collection. `slug` is empty for asset rows."""

    alias: str
    version: int
    slug: str = ""

    def __str__(self) -> str:
        return "__".join(filter(None, (self.alias, self.slug, f"v{self.version}")))


def entry_collection(collection: Collection, model_slug: str, version: int) -> PhysicalCollection:
    """Returns the physical collection of entries. A slug has lower case letters and digits, and single underscores.

    Raises:
        ConfigError: the slug is not of this form.
    """
    name = PhysicalCollection(collection.value, version, model_slug)
    if not model_slug or parse_name(str(name)) != name:
        raise ConfigError(f"model slug {model_slug!r}: use lower case letters and digits, joined by single underscores")
    return name


def asset_collection(version: int) -> PhysicalCollection:
    """Returns the physical collection of asset rows."""
    return PhysicalCollection(ASSET, version)


def parse_name(name: str) -> PhysicalCollection | None:
    """Parses a collection's name; None if the collection is not Penstock's."""
    match = _NAME.fullmatch(name)
    return PhysicalCollection(match["alias"], int(match["version"]), match["slug"] or "") if match else None


def check_served_version(target: PhysicalCollection, served: PhysicalCollection | None) -> None:
    """Refuses to fill a collection while another one of the same version is served.

    Raises:
        ConfigError: names both.
    """
    if served is not None and served.version == target.version and served != target:
        raise ConfigError(f"{target.alias} is served by {served}, not by {target}: set store.version to a new number")
