"""The taxonomy: modalities, collections, vector fields and channels, and how they belong together.

A new modality is one row of `MODALITIES`, a row of `COLLECTION_SPECS` for each collection that it adds, and a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Modality(StrEnum):
    """The kind of media that a topic carries. A topic has one modality."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    DOCUMENT = "document"


class Collection(StrEnum):
    """A logical collection, named after its rows. The store versions physical ones by encoder."""

    TEXT = "text"  # a passage of a text or of a page of a document
    IMAGE = "image"  # an image
    SPEECH = "speech"  # a passage of the transcript of an audio or video asset
    FRAME = "frame"  # a keyframe of a video asset
    SOUND = "sound"  # a window of the audio of an audio or video asset
    PAGE = "page"  # a page of a document as it looks, or an image on one


class Field(StrEnum):
    """A vector field of a collection."""

    JOINT = "joint"  # the space that text and images share (CLIP); in `sound`, that of text and audio (CLAP)
    PASSAGE = "passage"  # the space of the sentence encoder
    LEXICAL = "lexical"  # BM25, computed by the store from the terms of texts


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """The facts about a collection that all packages share.

    Attributes:
        fields: the vector fields that it can have, the most important first: a store that can hold only one keeps the
            first. A visual collection has `LEXICAL` only where a model of the profile writes text about its images.
        visual: whether its entries are images, so that an image encoder fills the field `joint`.
        has_thumbnails: whether its images are within a medium, so that each entry has a thumbnail in the asset store.
        audible: whether its entries are audio, so that an audio encoder fills the field `joint`. It exists only where a
            profile has such an encoder; elsewhere stores take it for an empty one.
    """

    fields: tuple[Field, ...]
    visual: bool = False
    audible: bool = False
    has_thumbnails: bool = False


@dataclass(frozen=True, slots=True)
class ModalitySpec:
    """The facts about a modality that all packages share.

    Attributes:
        collections: those in which its assets can have entries; surplus entries are searched in all of them.
        timed: whether its media have a duration.
        segmented: whether its media may be too long to be indexed in one batch, and are then indexed in segments.
        single_entry: whether an asset has at most one entry, part 0. A newer version then overwrites it, so that no
            surplus entries can remain.
    """

    collections: tuple[Collection, ...]
    timed: bool = False
    segmented: bool = False
    single_entry: bool = False


COLLECTION_SPECS: Mapping[Collection, CollectionSpec] = {
    Collection.TEXT: CollectionSpec((Field.PASSAGE, Field.JOINT, Field.LEXICAL)),
    Collection.IMAGE: CollectionSpec((Field.JOINT, Field.LEXICAL), visual=True),
    Collection.SPEECH: CollectionSpec((Field.PASSAGE, Field.LEXICAL)),
    Collection.FRAME: CollectionSpec((Field.JOINT,), visual=True, has_thumbnails=True),
    Collection.SOUND: CollectionSpec((Field.JOINT,), audible=True),
    Collection.PAGE: CollectionSpec((Field.JOINT, Field.LEXICAL), visual=True, has_thumbnails=True),
}

MODALITIES: Mapping[Modality, ModalitySpec] = {
    Modality.TEXT: ModalitySpec((Collection.TEXT,)),
    Modality.IMAGE: ModalitySpec((Collection.IMAGE,), single_entry=True),
    Modality.AUDIO: ModalitySpec((Collection.SPEECH, Collection.SOUND), timed=True, segmented=True),
    Modality.VIDEO: ModalitySpec((Collection.FRAME, Collection.SPEECH, Collection.SOUND), timed=True, segmented=True),
    Modality.DOCUMENT: ModalitySpec((Collection.TEXT, Collection.PAGE), segmented=True),
}

# --- derived from the two tables -------------------------------------------------------------------------------------

FIELDS_OF: Mapping[Collection, tuple[Field, ...]] = {
    collection: spec.fields for collection, spec in COLLECTION_SPECS.items()
}
COLLECTIONS_OF: Mapping[Modality, tuple[Collection, ...]] = {
    modality: spec.collections for modality, spec in MODALITIES.items()
}
VISUAL_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for collection, spec in COLLECTION_SPECS.items() if spec.visual
)
# Visual ones whose images models may write text about.
WORDED_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for collection in VISUAL_COLLECTIONS if Field.LEXICAL in FIELDS_OF[collection]
)
THUMBNAIL_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for collection, spec in COLLECTION_SPECS.items() if spec.has_thumbnails
)
AUDIBLE_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for collection, spec in COLLECTION_SPECS.items() if spec.audible
)
TEXT_COLLECTIONS: frozenset[Collection] = frozenset(  # those whose entries are texts
    collection for collection, spec in COLLECTION_SPECS.items() if Field.LEXICAL in spec.fields and not spec.visual
)
TIMED_MODALITIES: frozenset[Modality] = frozenset(modality for modality, spec in MODALITIES.items() if spec.timed)
TIMED_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for modality in TIMED_MODALITIES for collection in COLLECTIONS_OF[modality]
)
SEGMENTED_MODALITIES: frozenset[Modality] = frozenset(
    modality for modality, spec in MODALITIES.items() if spec.segmented
)
SEGMENTED_COLLECTIONS: frozenset[Collection] = frozenset(  # those whose entries may lie in either slot of an asset
    collection for modality in SEGMENTED_MODALITIES for collection in COLLECTIONS_OF[modality]
)
SINGLE_ENTRY_COLLECTIONS: frozenset[Collection] = frozenset(
    collection for spec in MODALITIES.values() if spec.single_entry for collection in spec.collections
)


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """A collection and one of its vector fields, which can be searched by itself. Written `image.joint`."""

    collection: Collection
    field: Field

    def __str__(self) -> str:
        return f"{self.collection}.{self.field}"
