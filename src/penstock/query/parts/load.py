"""Loads the stored vectors and the image of the entries that a query names.

An entry that the request may not read is answered as an absent one: the same requests to the store, and the same error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from penstock.encoders.profiles import JOINT_IMAGE, Profile
from penstock.errors import QueryError, UnavailableError
from penstock.query.executor import BoundedExecutor
from penstock.query.parts.compose import LoadedParts
from penstock.query.parts.images import POINTER, STORED_VECTOR, EntryImageReader
from penstock.query.parts.inputs import COMPOSED, ImageInput, StoredInput
from penstock.query.types import Query
from penstock.records import VISUAL_COLLECTIONS, Channel, Entry, Float32
from penstock.store.base import EntrySearch

_T = TypeVar("_T")
NOTHING = LoadedParts()


@dataclass(frozen=True, slots=True)
class PartLoader:
    """Loads parts from the store.

    Attributes:
        store: has the entries.
        executor: runs its calls.
        profile: of the encoders that filled the index.
        images: reads the images of entries; None: it cannot be done here.
    """

    store: EntrySearch
    executor: BoundedExecutor
    profile: Profile
    images: EntryImageReader | None

    async def load(self, query: Query, offered: Set[Channel], *, deadline_s: float) -> LoadedParts:
        """Returns the vectors and the image of the entries that the query names.

        Raises:
            QueryError: 400, an entry does not exist, or has no vector or image; 422, its image is not kept.
            UnavailableError: a store does not answer in time.
        """
        ids = query.parts.entry_ids
        if not ids:
            return NOTHING
        by_channel = await self._vectors(ids, query, offered, deadline_s)
        loaded = {id_ for vectors in by_channel.values() for id_ in vectors}
        unknown = [id_ for id_ in ids if id_ not in loaded]
        if unknown:
            entries = await self._entries(unknown, query, deadline_s)
            raise _unusable(query, unknown[0], entries.get(unknown[0]))
        spaces: dict[str, dict[str, StoredInput]] = {}
        for channel, vectors in by_channel.items():
            space = self._space(channel)
            encoder = JOINT_IMAGE if channel.collection in VISUAL_COLLECTIONS else COMPOSED
            for id_, vector in vectors.items():
                spaces.setdefault(space, {})[id_] = StoredInput(encoder, space, id_, vector)
        if query.parts.frame is None:
            return LoadedParts(spaces)
        image, source = await self._image(query, query.parts.frame, by_channel, spaces, deadline_s)
        return LoadedParts(spaces, image, source)

    async def _vectors(
        self, ids: Sequence[str], query: Query, offered: Set[Channel], deadline_s: float
    ) -> Mapping[Channel, Mapping[str, Float32]]:
        """Returns the vectors of the entries in every dense channel, each space of a collection once."""

        def of(channel: Channel) -> Callable[[float], Mapping[str, Float32]]:
            return lambda timeout_s: self.store.vectors(channel, ids, access=query.access, timeout_s=timeout_s)

        channels = self._dense(offered)
        results = await asyncio.gather(*(self._call(of(channel), deadline_s) for channel in channels))
        return dict(zip(channels, results, strict=True))

    async def _entries(self, ids: Sequence[str], query: Query, deadline_s: float) -> Mapping[str, Entry]:
        return await self._call(
            lambda timeout_s: self.store.entries(ids, access=query.access, timeout_s=timeout_s), deadline_s
        )

    async def _image(
        self,
        query: Query,
        id_: str,
        by_channel: Mapping[Channel, Mapping[str, Float32]],
        spaces: Mapping[str, Mapping[str, StoredInput]],
        deadline_s: float,
    ) -> tuple[ImageInput | StoredInput, str]:
        """Returns the image of an entry. All of it is its stored vector: no copy of it is better."""
        collection = next(channel.collection for channel, vectors in by_channel.items() if id_ in vectors)
        if collection not in VISUAL_COLLECTIONS:
            raise QueryError(
                f"entry {id_} is of {collection} and has no image: frame takes an image, a frame of a video or a page; "
                "`like` takes any entry",
                field=POINTER,
            )
        region = query.parts.region
        if region is None:
            return spaces[self.profile.space(JOINT_IMAGE).id][id_], STORED_VECTOR
        entry = (await self._entries([id_], query, deadline_s)).get(id_)
        if entry is None:  # deleted since its vector was read
            raise _unusable(query, id_, None)
        images = self.images
        if images is None:
            raise QueryError("this query plane reads no images: leave region out", status=422, field="/region")
        image = await self._call(lambda timeout_s: images.read(entry, timeout_s), deadline_s)
        return ImageInput(JOINT_IMAGE, image.data, region, POINTER), image.source

    async def _call(self, work: Callable[[float], _T], deadline_s: float) -> _T:
        try:
            return await self.executor.call(work, deadline_s=deadline_s)
        except TimeoutError as exc:
            raise UnavailableError("the entries to search by were not read within the deadline") from exc

    def _dense(self, offered: Iterable[Channel]) -> list[Channel]:
        """Returns the first dense channel of each collection and space."""
        first: dict[tuple[str, str], Channel] = {}
        for channel in sorted(offered):
            if channel.field in self.profile.vectors.get(channel.collection, {}):
                first.setdefault((channel.collection, self._space(channel)), channel)
        return list(first.values())

    def _space(self, channel: Channel) -> str:
        return self.profile.space(self.profile.vectors[channel.collection][channel.field]).id


def _unusable(query: Query, id_: str, entry: Entry | None) -> QueryError:
    """Returns the error for an entry without vectors, with a pointer to where the request names it."""
    parts = query.parts
    if id_ == parts.frame:
        pointer = POINTER
    elif id_ in parts.like:
        pointer = f"/like/{parts.like.index(id_)}"
    else:
        pointer = f"/not/like/{parts.not_like.index(id_)}"
    if entry is None:
        return QueryError(f"there is no entry {id_}", field=pointer)
    return QueryError(f"entry {id_} has no vector that it could be searched by", field=pointer)
