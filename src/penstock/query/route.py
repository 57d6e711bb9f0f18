"""Step 2, route: chooses the channels that a query is searched in, and the vector for each.

A channel of the requested collections is one of three things: searched; spare, because another channel of the same
collection and space is searched and would find the same; or missing, because this store does not offer it although the
collection is meant to have it. Missing channels are reported to the client: the answer is worse than on a full store.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, Profile, role_of
from penstock.errors import QueryError
from penstock.query.types import ChannelQuery, ImageInput, Query, SearchPlan, TextInput
from penstock.records import AUDIBLE_COLLECTIONS, FIELDS_OF, Channel, Collection, Field

LEXICAL_SPACE = "lexical"  # BM25 compares no vectors, so it is a space of its own
NOT_OFFERED = "not offered by this store"
NO_COLLECTION = "the index has no collection of this kind"


def route(query: Query, *, offered: Set[Channel], profile: Profile) -> SearchPlan:
    """Derives the channel queries of a query.

    Args:
        query: to be searched for. Audio must have been transcribed.
        offered: the channels that the store can search.
        profile: names the encoder of queries for each field, and its space.

    Raises:
        QueryError: no channel could ever answer, such as an image query that is restricted to audio.
    """
    in_index = {channel.collection for channel in offered}
    queries: list[ChannelQuery] = []
    missing: dict[Channel, str] = {}
    answerable = False
    for collection in query.collections:
        candidates = _candidates(collection, query, profile)
        answerable = answerable or bool(candidates)
        if collection in in_index:
            chosen = _first_of_each_space(candidate for candidate in candidates if candidate.channel in offered)
            reached = {candidate.space for candidate in chosen}
            queries += chosen
            missing |= {candidate.channel: NOT_OFFERED for candidate in candidates if candidate.space not in reached}
        elif query.modalities_given:
            missing |= {candidate.channel: NO_COLLECTION for candidate in candidates}
    if not answerable:
        raise QueryError(
            "an image query can match image, video or text; none of these is in `modalities`", field="/modalities"
        )
    return SearchPlan(tuple(queries), missing)


def _candidates(collection: Collection, query: Query, profile: Profile) -> list[ChannelQuery]:
    """Returns a query for every channel of the collection that could answer, the preferred one of a space first."""
    candidates: list[ChannelQuery] = []
    if query.text is not None:
        fields = profile.fields(collection)
        candidates += [_for_text(Channel(collection, field), query.text, profile) for field in fields]
    if query.image is not None:
        candidates += _for_image(collection, query.image, profile)
    return candidates


def _for_text(channel: Channel, text: str, profile: Profile) -> ChannelQuery:
    if channel.field is Field.LEXICAL:
        return ChannelQuery(channel, LEXICAL_SPACE, text)
    encoder = profile.query_encoder(channel.field, channel.collection)
    return ChannelQuery(channel, profile.space(role_of(encoder)).id, TextInput(encoder, text))


def _for_image(collection: Collection, image: bytes, profile: Profile) -> list[ChannelQuery]:
    """Returns `joint`, and `passage` where both are one space: it replaces `joint` in a store with one field only."""
    fields = FIELDS_OF[collection]
    if Field.JOINT not in fields or collection in AUDIBLE_COLLECTIONS:
        return []
    space = profile.space(JOINT_IMAGE)
    content = ImageInput(JOINT_IMAGE, image)
    queries = [ChannelQuery(Channel(collection, Field.JOINT), space.id, content)]
    if Field.PASSAGE in fields and profile.space(PASSAGE_TEXT) == space:
        queries.append(ChannelQuery(Channel(collection, Field.PASSAGE), space.id, content))
    return queries


def _first_of_each_space(queries: Iterable[ChannelQuery]) -> list[ChannelQuery]:
    """Returns the first query of each space: two channels of one collection and space would find the same entries."""
    first: dict[str, ChannelQuery] = {}
    for query in queries:
        first.setdefault(query.space, query)
    return list(first.values())
