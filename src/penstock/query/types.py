"""Results of a search: hits, the channels that found them, and the moments they lie in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.records import Channel, Collection, Entry


@dataclass(frozen=True, slots=True)
class ChannelHit:
    """Says that one channel found an entry: its rank there, from 1, and its raw score (cosine, or BM25)."""

    channel: Channel
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a moment, with the channels that found it."""

    entry: Entry
    found_by: tuple[ChannelHit, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """Neighbouring entries of one audio or video asset, merged into a range of time.

    Attributes:
        start_ms, end_ms: in the asset's own time: from the best member and those that the same channel ranked nearly as
            well. Other members may reach beyond.
        members: entries of `speech` and `frame`, in order of time.
        frame: the best of its frames; None if only speech was found.
    """

    start_ms: int
    end_ms: int
    members: tuple[Member, ...]
    frame: Entry | None

    @property
    def transcript(self) -> str:
        """The text of its speech members, in order of time."""
        speech = (member.entry for member in self.members if member.entry.collection is Collection.SPEECH)
        return " ".join(entry.text for entry in speech)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        entry: the entry that was found; the best one of a moment.
        score: the fused score.
        found_by: the channels that found it; for a moment, each with the best rank of any member.
        moment: its range of time; None for entries without one.
        indexing: its asset is long, and later segments are not indexed yet.
    """

    entry: Entry
    score: float
    found_by: tuple[ChannelHit, ...]
    moment: Moment | None = None
    indexing: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The response to one search.

    Attributes:
        hits: best first.
        partial: whether a channel failed or was late. One that the store cannot offer at all is in `missing` only.
        missing: the channels left out, each with the reason.
        took_ms: milliseconds by step: transcribe (of a spoken query), encode, search, fuse, total.
        transcript: the text of a spoken query; None for other queries.
    """

    hits: Sequence[Hit]
    partial: bool
    missing: Mapping[Channel, str]
    took_ms: Mapping[str, float]
    transcript: str | None = None
