"""Names of physical collections: `image__clip_vit_b32__v1`. Before the first `__` stands the alias it can serve."""

from __future__ import annotations

import re
from dataclasses import dataclass

from penstock.errors import ConfigError
from penstock.records import Collection

ASSET = "asset"
"""The alias of the asset rows. Their physical collections are `asset__v1`, `asset__v2`: one for each version, because a
reindex is a second consumer group, which judges for itself what is older than what it has settled."""

_NAME = re.compile(r"(?P<alias>[a-z]+)(__(?P<slug>[a-z0-9]+(_[a-z0-9]+)*))?__v(?P<version>[1-9]\d*)")


@dataclass(frozen=True, slots=True, order=True)
class PhysicalCollection:
    """A physical collection, taken apart. `slug` is empty for asset rows."""

    alias: str
    version: int
    slug: str = ""

    def __str__(self) -> str:
        return "__".join(filter(None, (self.alias, self.slug, f"v{self.version}")))


def entry_collection(collection: Collection, model_slug: str, version: int) -> PhysicalCollection:
    """The physical collection of entries. A slug is lower case letters and digits, words joined by one underscore.

    Raises:
        ConfigError: the slug is not of this form.
    """
    name = PhysicalCollection(collection.value, version, model_slug)
    if not model_slug or parse_name(str(name)) != name:
        raise ConfigError(f"model slug {model_slug!r}: lower case letters and digits, joined by single underscores")
    return name


def asset_collection(version: int) -> PhysicalCollection:
    return PhysicalCollection(ASSET, version)


def parse_name(name: str) -> PhysicalCollection | None:
    """None for a collection that is not Penstock's."""
    found = _NAME.fullmatch(name)
    return PhysicalCollection(found["alias"], int(found["version"]), found["slug"] or "") if found else None


def check_served_version(target: PhysicalCollection, served: PhysicalCollection | None) -> None:
    """Refuses to fill a collection beside one of the same version that is served.

    Raises:
        ConfigError: names both.
    """
    if served is not None and served.version == target.version and served != target:
        raise ConfigError(f"{target.alias} is served by {served}, not by {target}: set store.version to a new number")
