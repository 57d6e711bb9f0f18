"""Records with each collection which encoders and which analyzer fill it, and refuses those of others."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass

from penstock.analysis import ANALYZER
from penstock.encoders.base import Fingerprint, Space
from penstock.errors import ConfigError
from penstock.records import FIELDS_OF, Collection, Field
from penstock.store.access import ACL
from penstock.store.base import Capabilities, IndexSpec, VectorSpec

# Property of a collection: JSON of the space and encoder of each dense field. Milvus Lite and real servers both keep
# properties; Lite drops the description.
VECTORS_PROPERTY = "penstock.vectors"
# Property of a collection with the field `LEXICAL`: the analyzer of its terms. Collections of an older Penstock have
# none: Milvus's own analyzer takes their texts and the questions apart.
ANALYZER_PROPERTY = "penstock.analyzer"
# Property of a collection: the number of the schema that its columns have. It grows with a release whose columns differ
# in more than their number; collections without it have the first.
SCHEMA_PROPERTY = "penstock.schema"
SCHEMA = 2


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The space and the encoder of a vector field. The attributes are the keys of the recorded JSON.

    Attributes:
        space: id of the vector space.
        dim: number of dimensions.
        model, weights, preprocessing: fingerprint of the encoder.
    """

    space: str
    dim: int
    model: str
    weights: str
    preprocessing: str

    @classmethod
    def from_spec(cls, spec: VectorSpec) -> EncoderInfo:
        """Returns what is recorded for a field of this specification."""
        fingerprint = spec.fingerprint
        return cls(spec.space.id, spec.space.dim, fingerprint.model, fingerprint.weights, fingerprint.preprocessing)

    def to_spec(self) -> VectorSpec:
        """Returns the specification of a field that is filled so."""
        return VectorSpec(Space(self.space, self.dim), Fingerprint(self.model, self.weights, self.preprocessing))

    def __str__(self) -> str:
        return f"{self.model} ({self.dim}-d, weights {self.weights}, preprocessing {self.preprocessing})"


def supported_fields(collection: Collection, spec: IndexSpec, capabilities: Capabilities) -> tuple[Field, ...]:
    """Returns the vector fields that a backend can give a collection, the most important first."""
    required = required_fields(collection, spec)
    possible = [field for field in required if field is not Field.LEXICAL or capabilities.lexical]
    return tuple(possible[: capabilities.vector_fields])


def required_fields(collection: Collection, spec: IndexSpec) -> tuple[Field, ...]:
    """Returns the vector fields that a backend without limits would hold."""
    required = {*spec.vectors[collection], *([Field.LEXICAL] if collection in spec.lexical else [])}
    return tuple(field for field in FIELDS_OF[collection] if field in required)


def encoders_of(fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec]) -> dict[Field, EncoderInfo]:
    """Returns the encoders of those of the fields that are dense."""
    return {field: EncoderInfo.from_spec(vectors[field]) for field in fields if field in vectors}


def to_property(encoders: Mapping[Field, EncoderInfo]) -> str:
    """Returns the value of `VECTORS_PROPERTY`."""
    return json.dumps({field.value: asdict(info) for field, info in encoders.items()}, sort_keys=True)


def properties_of(fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec]) -> dict[str, str]:
    """Returns the properties that are recorded with a new collection of these fields."""
    analyzer = {ANALYZER_PROPERTY: ANALYZER} if Field.LEXICAL in fields else {}
    return {VECTORS_PROPERTY: to_property(encoders_of(fields, vectors)), SCHEMA_PROPERTY: str(SCHEMA), **analyzer}


def from_properties(name: str, properties: Mapping[str, str]) -> dict[Field, EncoderInfo]:
    """Returns the encoders of a collection's dense fields.

    Raises:
        ConfigError: the collection is not Penstock's, or recorded in another form.
    """
    if VECTORS_PROPERTY not in properties:
        raise ConfigError(
            f"collection {name} is not Penstock's: drop or rename it, or set store.database to another one"
        )
    try:
        recorded = json.loads(properties[VECTORS_PROPERTY])
        return {Field(field): EncoderInfo(**info) for field, info in recorded.items()}
    except (TypeError, ValueError) as exc:
        raise ConfigError(
            f"collection {name} was created by another version of Penstock: set store.version to a new number"
        ) from exc


def check_compatible(name: str, encoders: Mapping[Field, EncoderInfo], vectors: Mapping[Field, VectorSpec]) -> None:
    """Refuses a collection that was filled by other encoders than these.

    Raises:
        ConfigError: one line that names both.
    """
    for field, info in encoders.items():
        spec = vectors.get(field)
        if spec is None or not is_filled_by(spec, info):
            ours = EncoderInfo.from_spec(spec) if spec else "no encoder"
            raise ConfigError(
                f"collection {name} was filled by {info}, but {field} is now encoded by {ours}: use the "
                "profile that filled it, or set store.version to a new number and fill new collections beside it"
            )


def is_filled_by(spec: VectorSpec | None, info: EncoderInfo | None) -> bool:
    """Returns whether vectors of this encoder can be compared with those of `spec`; True if there is no `spec`."""
    return spec is None or EncoderInfo.from_spec(spec) == info


def check_analyzer(name: str, properties: Mapping[str, str]) -> None:
    """Refuses a collection whose terms are of another analyzer. One that has no terms passes: see `is_analysed`.

    Raises:
        ConfigError: one line that names both.
    """
    recorded = properties.get(ANALYZER_PROPERTY, ANALYZER)
    if recorded != ANALYZER:
        raise ConfigError(
            f"collection {name} was filled with words of analyzer {recorded}, and this Penstock has {ANALYZER}: set "
            "store.version to a new number and fill new collections beside it"
        )


def check_schema(name: str, properties: Mapping[str, str]) -> None:
    """Refuses a collection whose columns are those of another release.

    Raises:
        ConfigError: one line that names both numbers and says what to do.
    """
    recorded = str(properties.get(SCHEMA_PROPERTY, 1))
    if recorded == str(SCHEMA):
        return
    if recorded.isdecimal() and int(recorded) < SCHEMA:
        raise ConfigError(
            f"collection {name} has schema {recorded}, and this Penstock needs schema {SCHEMA}: let the earlier "
            "release serve it, and fill a new version beside it with this one (`penstock reindex start`)"
        )
    raise ConfigError(
        f"collection {name} has schema {recorded}, and this Penstock knows schemas up to {SCHEMA}: use the release "
        "that created it"
    )


def check_labels(name: str, columns: Container[str]) -> None:
    """Refuses a collection without the column of labels: every caller could read all of it.

    Raises:
        ConfigError: one line that says what to do.
    """
    if ACL not in columns:
        raise ConfigError(
            f"collection {name} is of a Penstock without labels of entries: set store.version to a new number and fill "
            "new collections beside it"
        )


def is_analysed(properties: Mapping[str, str]) -> bool:
    """Returns whether a collection has terms of this analyzer, with which a question's terms can be compared."""
    return properties.get(ANALYZER_PROPERTY) == ANALYZER
