"""Step 2, route: chooses the channels that a query is searched in, and the vector for each.

A channel of the requested collections is one of three things: searched; spare, because another channel of the same
collection and space is searched and would find the same; or missing, because this store does not offer it although the
collection is meant to have it. Missing channels are reported to the client: the answer is worse than on a full store.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from penstock.encoders.profiles import Profile, role_of
from penstock.errors import QueryError
from penstock.query.conditions import where_in
from penstock.query.parts.base import QueryPart
from penstock.query.parts.compose import LoadedParts, compose, share_of
from penstock.query.parts.load import NOTHING
from penstock.query.parts.meeting import check_meeting
from penstock.query.types import ChannelQuery, Query, SearchPlan
from penstock.records import Channel, Collection, Field

LEXICAL_SPACE = "lexical"  # BM25 compares no vectors, so it is a space of its own
NOT_OFFERED = "not offered by this store"
NO_COLLECTION = "the index has no collection of this kind"


def route(query: Query, *, offered: Set[Channel], profile: Profile, loaded: LoadedParts = NOTHING) -> SearchPlan:
    """Derives the channel queries of a query.

    Args:
        query: to be searched for. Audio must have been transcribed.
        offered: the channels that the store can search.
        profile: names the encoder of queries for each field, and its space.
        loaded: the entries that the query names.

    Raises:
        QueryError: no channel could ever answer, such as an image query that is restricted to audio; or parts with
            weights meet in no space, or nothing can be avoided as the request demands.
    """
    in_index = {channel.collection for channel in offered}
    chosen: list[PlannedQuery] = []
    missing: dict[Channel, str] = {}
    answerable = False
    for collection in query.collections:
        candidates = _candidates(collection, query, loaded, profile)
        answerable = answerable or bool(candidates)
        if collection in in_index:
            searched = _first_of_each_space(candidate for candidate in candidates if candidate.query.channel in offered)
            reached = {candidate.query.space for candidate in searched}
            chosen += searched
            missing |= {
                candidate.query.channel: NOT_OFFERED for candidate in candidates if candidate.query.space not in reached
            }
        elif query.modalities_given:
            missing |= {candidate.query.channel: NO_COLLECTION for candidate in candidates}
    if not answerable:
        raise _unanswerable(query)
    because = check_meeting(query, [candidate.parts for candidate in chosen])
    return SearchPlan(tuple(candidate.query for candidate in chosen), missing, because)


def for_ranking(query: Query, plan: SearchPlan) -> Query:
    """Returns the query as the later steps rank and judge by it.

    A channel that is searched for some of the parts counts with their share of the weights. Words count as words only
    where they are all that is searched for: calibrations and reranking models compare nothing else.
    """
    factors = dict(query.fuse.channel_weights)
    for planned in plan.queries:
        if planned.share != 1.0:
            factors[planned.channel] = factors.get(planned.channel, 1.0) * planned.share
    fuse = replace(query.fuse, channel_weights=factors)
    if plan.in_words:
        return replace(query, fuse=fuse)
    return replace(query, fuse=fuse, text=None, rerank=None)


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """A channel query, and the parts of the query that it is searched for."""

    query: ChannelQuery
    parts: frozenset[QueryPart]


def _candidates(collection: Collection, query: Query, loaded: LoadedParts, profile: Profile) -> list[PlannedQuery]:
    """Returns a query for every channel of the collection that could answer, the preferred one of a space first.

    Where images and texts share a space, and the store has one field only, `passage` replaces `joint`.
    """
    fields = profile.fields(collection)
    if query.text is None:
        fields = tuple(sorted(fields, key=lambda field: field is not Field.JOINT))
    candidates: list[PlannedQuery] = []
    where = where_in(query, collection)
    for field in fields:
        channel = Channel(collection, field)
        if field is Field.LEXICAL:
            if query.text is not None:
                words = frozenset({QueryPart.TEXT})
                share = share_of(query, words)
                extra = query.understood.extra if query.understood else ()
                lexical = ChannelQuery(channel, LEXICAL_SPACE, query.text, share, extra, where)
                candidates.append(PlannedQuery(lexical, words))
        elif (composed := compose(channel, query, loaded, profile)) is not None:
            space = profile.space(role_of(profile.query_encoder(field, collection))).id
            channel_query = ChannelQuery(channel, space, composed.content, composed.share, where=where)
            candidates.append(PlannedQuery(channel_query, composed.parts))
    return candidates


def _unanswerable(query: Query) -> QueryError:
    if query.parts.like and query.image is None and query.parts.frame is None:
        return QueryError("nothing that is searched compares with the entries in `like`", field="/like")
    return QueryError(
        "an image query can match image, video, document or text; none of these is in `modalities`", field="/modalities"
    )


def _first_of_each_space(candidates: Iterable[PlannedQuery]) -> list[PlannedQuery]:
    """Returns the first query of each space: two channels of one collection and space would find the same entries."""
    first: dict[str, PlannedQuery] = {}
    for candidate in candidates:
        first.setdefault(candidate.query.space, candidate)
    return list(first.values())
