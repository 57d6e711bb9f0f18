"""The parts of a query beside its text, image and audio, as requested and as checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.records import ImageRegion

# As in Qdrant's average of vectors, where the mean of what is wanted counts twice and that of what is not once.
NOT_WEIGHT = 0.5


class QueryPart(StrEnum):
    """Names the parts of a query that have a weight."""

    TEXT = "text"  # the words, written and spoken
    IMAGE = "image"
    FRAME = "frame"  # the image of an indexed entry
    LIKE = "like"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class PartsRequest:
    """The further parts of a request, unchecked; None: not given.

    Attributes:
        like: ids of entries to search by.
        not_texts, not_like: words, and ids of entries, to search away from.
        frame: id of an entry whose image is searched by.
        region: of the image.
        compose: weights by the name of a part.
    """

    like: Sequence[str] | None = None
    not_texts: Sequence[str] | None = None
    not_like: Sequence[str] | None = None
    frame: str | None = None
    region: ImageRegion | None = None
    compose: Mapping[str, float] | None = None


NO_PARTS = PartsRequest()
"""The further parts of a request that has none."""


@dataclass(frozen=True, slots=True)
class QueryParts:
    """The checked further parts of a query. Parts of weight 0 are left out of a query altogether.

    Attributes:
        like, not_texts, not_like: without repetitions, in the order of the request.
        frame: as in the request.
        region: of the image or the frame; None: all of it.
        weights: above 0, of the parts of the query.
        demanded: whether the request itself has weights: all parts must then meet in one space.
    """

    like: tuple[str, ...] = ()
    not_texts: tuple[str, ...] = field(default=(), repr=False)
    not_like: tuple[str, ...] = ()
    frame: str | None = None
    region: ImageRegion | None = None
    weights: Mapping[QueryPart, float] = field(default_factory=dict)
    demanded: bool = False

    @property
    def entry_ids(self) -> tuple[str, ...]:
        """The ids of all entries that are searched by or away from, each once."""
        return tuple(dict.fromkeys((*self.like, *self.not_like, *(() if self.frame is None else (self.frame,)))))

    @property
    def excluded(self) -> frozenset[str]:
        """The ids of entries that cannot be hits: who searches for more like an entry has the entry already."""
        return frozenset((*self.like, *self.not_like))
