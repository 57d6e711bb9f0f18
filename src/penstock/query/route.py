"""Step 2, route: which channels a question is put to, and with which vector.

A channel of the wanted collections is one of three things: searched; spare, because a sibling of the same collection
and space is searched and would find the same; or missing, because this store does not offer it although the collection
is meant to have it. Missing channels are told to the user: the answer is worse than it would be on a full store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, Profile, role_of
from penstock.errors import QueryError
from penstock.query.understand.validate import Question
from penstock.records import FIELDS_OF, Channel, Collection, Field

LEXICAL_SPACE = "lexical"  # BM25 compares with no vectors, so it is a space of its own
NOT_OFFERED = "not offered by this store"
NO_COLLECTION = "nothing of this kind is in the index"


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """One channel to search.

    Attributes:
        channel: which.
        encoder: what makes its query vector (`EncoderInput.encoder`); None: the store takes the text itself.
        space: the id of the space it compares in.
    """

    channel: Channel
    encoder: str | None
    space: str


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a question is put to. `missing` are channels that it would have been put to on a store that offers them."""

    queries: tuple[ChannelQuery, ...]
    missing: Mapping[Channel, str]


def route(question: Question, *, offered: Set[Channel], profile: Profile) -> SearchPlan:
    """Chooses the channels.

    Args:
        question: what is asked.
        offered: the channels that the store can search.
        profile: says which encoder makes queries for which field, and in which space.

    Raises:
        QueryError: no channel could ever answer: a picture does not search transcripts.
    """
    in_index = {channel.collection for channel in offered}
    probes: list[ChannelQuery] = []
    missing: dict[Channel, str] = {}
    answerable = False
    for collection in question.collections:
        candidates = _candidates(collection, question.content, profile)
        answerable = answerable or bool(candidates)
        if collection in in_index:
            chosen = _one_a_space(probe for probe in candidates if probe.channel in offered)
            reached = {probe.space for probe in chosen}
            probes += chosen
            missing |= {probe.channel: NOT_OFFERED for probe in candidates if probe.space not in reached}
        elif question.named:
            missing |= {probe.channel: NO_COLLECTION for probe in candidates}
    if not answerable:
        raise QueryError(
            "a picture can find pictures, frames and texts, but none of them is among the modalities asked for",
            field="/modalities",
        )
    return SearchPlan(tuple(probes), missing)


def _candidates(collection: Collection, content: str | bytes, profile: Profile) -> list[ChannelQuery]:
    """Every channel of the collection that could answer, the preferred one of a space first."""
    if isinstance(content, bytes):
        return _for_image(collection, profile)
    return [_for_text(Channel(collection, field), profile) for field in FIELDS_OF[collection]]


def _for_text(channel: Channel, profile: Profile) -> ChannelQuery:
    if channel.field is Field.LEXICAL:
        return ChannelQuery(channel, None, LEXICAL_SPACE)
    encoder = profile.query_encoder(channel.field)
    return ChannelQuery(channel, encoder, profile.space(role_of(encoder)).id)


def _for_image(collection: Collection, profile: Profile) -> list[ChannelQuery]:
    """`joint`; and `passage` to stand in for it where both are one space, for a store that holds one field only."""
    fields = FIELDS_OF[collection]
    if Field.JOINT not in fields:
        return []
    space = profile.space(JOINT_IMAGE)
    probes = [ChannelQuery(Channel(collection, Field.JOINT), JOINT_IMAGE, space.id)]
    if Field.PASSAGE in fields and profile.space(PASSAGE_TEXT) == space:
        probes.append(ChannelQuery(Channel(collection, Field.PASSAGE), JOINT_IMAGE, space.id))
    return probes


def _one_a_space(probes: Iterable[ChannelQuery]) -> list[ChannelQuery]:
    """The first probe of each space: two channels of one collection and space would find the same twice."""
    first: dict[str, ChannelQuery] = {}
    for probe in probes:
        first.setdefault(probe.space, probe)
    return list(first.values())
