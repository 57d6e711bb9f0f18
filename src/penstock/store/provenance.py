"""Who filled a collection: recorded with it when it is made, compared when it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from penstock.errors import ConfigError
from penstock.records import FIELDS_OF, Collection, Field
from penstock.store.base import Capabilities, VectorSpec

VECTORS_PROPERTY = "penstock.vectors"
"""Property of a collection: JSON of the space and encoder of each dense field. Kept by Lite and real servers alike; the
description is not (Lite drops it)."""


def supported_fields(
    collection: Collection, vectors: Mapping[Field, VectorSpec], capabilities: Capabilities
) -> tuple[Field, ...]:
    """The vector fields that this backend can give a collection, the most important first."""
    wanted = required_fields(collection, vectors)
    possible = [field for field in wanted if field is not Field.LEXICAL or capabilities.lexical]
    return tuple(possible[: capabilities.vector_fields])


def required_fields(collection: Collection, vectors: Mapping[Field, VectorSpec]) -> tuple[Field, ...]:
    """Those that a backend without limits would hold."""
    return tuple(field for field in FIELDS_OF[collection] if field in vectors or field is Field.LEXICAL)


def made_by(fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec]) -> str:
    """What is recorded with a collection."""
    return json.dumps({field.value: maker(vectors[field]) for field in fields if field in vectors}, sort_keys=True)


def check_compatible(name: str, properties: Mapping[str, Any], vectors: Mapping[Field, VectorSpec]) -> None:
    """Refuses a collection whose vectors came from other encoders than these.

    Raises:
        ConfigError: one line that names both.
    """
    for field, made in recorded(name, properties).items():
        asked = vectors.get(field)
        if asked is None or not is_maker(asked, made):
            ours = _words(maker(asked)) if asked else "no encoder"
            raise ConfigError(
                f"collection {name} was filled by {_words(made)}, but {field} is now encoded by {ours}: use the "
                "profile that filled it, or set store.version to a new number and fill new collections beside it"
            )


def is_maker(asked: VectorSpec | None, made: Mapping[str, Any] | None) -> bool:
    """Whether vectors recorded as `made` can be compared with those of `asked`; True where nothing is asked."""
    return asked is None or maker(asked) == made


def recorded(name: str, properties: Mapping[str, Any]) -> Mapping[Field, Mapping[str, Any]]:
    """The makers of a collection's dense fields.

    Raises:
        ConfigError: it is not a collection of Penstock's.
    """
    if VECTORS_PROPERTY not in properties:
        raise ConfigError(
            f"collection {name} is not Penstock's: drop or rename it, or set store.database to another one"
        )
    return {Field(field): made for field, made in json.loads(properties[VECTORS_PROPERTY]).items()}


def maker(spec: VectorSpec) -> dict[str, Any]:
    """A space and an encoder as they are recorded."""
    made = spec.fingerprint
    return {
        "space": spec.space.id,
        "dim": spec.space.dim,
        "model": made.model,
        "weights": made.weights,
        "preprocessing": made.preprocessing,
    }


def _words(made: Mapping[str, Any]) -> str:
    return f"{made['model']} ({made['dim']}-d, weights {made['weights']}, preprocessing {made['preprocessing']})"
