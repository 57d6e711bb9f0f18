"""Composes the input of a channel's vector of the parts of a query that are in its space.

Every channel compares vectors of one space. The parts that have a vector there are added, and what is to be avoided is
subtracted; so a channel is searched for one vector, and parts that meet in no space are searched for by channels of
their own, whose rankings are fused. Lexical channels take the text alone: BM25 knows neither images nor subtraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from penstock.encoders.profiles import JOINT_IMAGE, Profile, role_of
from penstock.query.parts.base import NOT_WEIGHT, QueryPart
from penstock.query.parts.inputs import (
    ComposedInput,
    EmbeddingInput,
    ImageInput,
    SingleInput,
    StoredInput,
    Term,
    TextInput,
)
from penstock.query.types import Query
from penstock.records import AUDIBLE_COLLECTIONS, FIELDS_OF, Channel, Field

ALL_PARTS = frozenset(QueryPart)


@dataclass(frozen=True, slots=True)
class LoadedParts:
    """Holds what was loaded for a query.

    Attributes:
        vectors: of entries, by space, then by id.
        frame_image: the image of its frame; None: it has none.
        image_source: where that comes from, in words.
    """

    vectors: Mapping[str, Mapping[str, StoredInput]] = field(default_factory=dict)
    frame_image: ImageInput | StoredInput | None = None
    image_source: str | None = None


@dataclass(frozen=True, slots=True)
class ComposedParts:
    """The input of a channel's vector.

    Attributes:
        content: to embed.
        parts: those that have a share in it.
        share: of the weights of all parts to search by, those of these; 1 if it is all of them.
    """

    content: EmbeddingInput
    parts: frozenset[QueryPart]
    share: float


def compose(channel: Channel, query: Query, loaded: LoadedParts, profile: Profile) -> ComposedParts | None:
    """Returns the input of a dense channel; None if no requested part has a vector in its space.

    The order of what the request lists does not matter: equal requests have equal inputs, to the last bit.
    """
    members = {part: tuple(inputs) for part, inputs in _members(channel, query, loaded, profile) if inputs}
    requested = members.keys() - {QueryPart.NOT}
    if not requested:
        return None
    parts = frozenset(members)
    if len(members) == 1 and len(only := members[next(iter(requested))]) == 1:
        return ComposedParts(only[0], parts, share_of(query, parts))
    terms = (
        Term(-weight_of(query, part) if part is QueryPart.NOT else weight_of(query, part), inputs)
        for part, inputs in members.items()
    )
    return ComposedParts(ComposedInput(tuple(terms)), parts, share_of(query, parts))


def parts_of(query: Query) -> frozenset[QueryPart]:
    """Returns the parts that a query has. Its audio must have been transcribed."""
    given = {
        QueryPart.TEXT: query.text is not None,
        QueryPart.IMAGE: query.image is not None,
        QueryPart.FRAME: query.parts.frame is not None,
        QueryPart.LIKE: bool(query.parts.like),
        QueryPart.NOT: bool(query.parts.not_texts or query.parts.not_like),
    }
    return frozenset(part for part, is_given in given.items() if is_given)


def weight_of(query: Query, part: QueryPart) -> float:
    """Returns the weight of a part."""
    return query.parts.weights.get(part, NOT_WEIGHT if part is QueryPart.NOT else 1.0)


def weights_of(query: Query) -> Mapping[QueryPart, float]:
    """Returns the weights of the parts of a query that has several; none for a single part."""
    parts = sorted(parts_of(query))
    return {part: weight_of(query, part) for part in parts} if len(parts) > 1 else {}


def share_of(query: Query, parts: frozenset[QueryPart]) -> float:
    """Returns the share of these parts in the weights of what is searched by."""
    requested = sorted(parts_of(query) - {QueryPart.NOT})
    if parts.issuperset(requested):
        return 1.0
    total = sum(weight_of(query, part) for part in requested)
    return sum(weight_of(query, part) for part in requested if part in parts) / total


def _members(
    channel: Channel, query: Query, loaded: LoadedParts, profile: Profile
) -> Iterator[tuple[QueryPart, list[SingleInput]]]:
    """Yields the inputs of each part that the channel compares with, in the order of `QueryPart`."""
    encoder = profile.query_encoder(channel.field, channel.collection)
    space = profile.space(role_of(encoder)).id
    parts, takes_images = query.parts, _takes_images(channel, space, profile)
    stored = {
        id_: vector
        for id_, vector in loaded.vectors.get(space, {}).items()
        if takes_images or vector.encoder != JOINT_IMAGE
    }
    yield QueryPart.TEXT, [] if query.text is None else [TextInput(encoder, query.text, channel.field)]
    region = parts.region if parts.frame is None else None
    yield QueryPart.IMAGE, [ImageInput(JOINT_IMAGE, query.image, region)] if takes_images and query.image else []
    yield QueryPart.FRAME, [loaded.frame_image] if takes_images and loaded.frame_image is not None else []
    yield QueryPart.LIKE, [stored[id_] for id_ in sorted(parts.like) if id_ in stored]
    texts: list[SingleInput] = [TextInput(encoder, text, channel.field) for text in sorted(parts.not_texts)]
    yield QueryPart.NOT, [*texts, *(stored[id_] for id_ in sorted(parts.not_like) if id_ in stored)]


def _takes_images(channel: Channel, space: str, profile: Profile) -> bool:
    """Returns whether vectors of images are compared in a channel: those of `joint`, and of `passage` beside it."""
    beside = Field.JOINT in FIELDS_OF[channel.collection] and channel.collection not in AUDIBLE_COLLECTIONS
    return beside and profile.space(JOINT_IMAGE).id == space
