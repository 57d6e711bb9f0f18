"""Tests which words of hits become sources, and when these are spoken."""

from __future__ import annotations

import asyncio
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.errors import UnavailableError
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.sources import SourceReader, compose_sources
from penstock.query.generate.types import Source, TimedRange
from penstock.query.types import Hit, Moment, MomentMember
from penstock.records import Access, AssetRef, Collection, Entry, Position, bare_entry

LONG = " ".join(f"The {bird} waits by its own river." for bird in string.ascii_lowercase) + " "


def text_hit(text: str, key: str = "note", part: int = 0, **fields: Any) -> Hit:
    return Hit(
        replace(bare_entry(AssetRef("default", "notes", key), Collection.TEXT, part), text=text, **fields), 1.0, ()
    )


def timed(collection: Collection, text: str, start_ms: int, end_ms: int, part: int = 0) -> Entry:
    entry = bare_entry(AssetRef("default", "films", "film"), collection, part)
    return replace(entry, text=text, start_ms=start_ms, end_ms=end_ms, title="A film")


def moment_hit(*members: Entry) -> Hit:
    moment = Moment(
        min(member.start_ms for member in members),
        max(member.end_ms for member in members),
        tuple(MomentMember(member, ()) for member in members),
        None,
    )
    return Hit(members[0], 1.0, (), moment)


def read(*hits: Hit, beside: Sequence[Entry] = (), max_sources: int = 8) -> list[Source]:
    return list(compose_sources(hits, {entry.id: entry for entry in beside}, max_sources=max_sources))


def test_a_text_gives_its_passage() -> None:
    hit = text_hit("Herons eat fish.", title="Herons")

    assert read(hit) == [Source(1, hit, "Herons eat fish.")]


def test_sources_are_numbered_in_the_order_of_the_hits_up_to_their_maximum() -> None:
    sources = read(text_hit("one", "a"), text_hit("two", "b"), text_hit("three", "c"), max_sources=2)

    assert [(source.number, source.text) for source in sources] == [(1, "one"), (2, "two")]


def test_a_hit_without_words_is_no_source() -> None:
    assert [source.text for source in read(text_hit("", "a"), text_hit("two", "b"))] == ["two"]


def test_an_image_gives_its_title_and_the_words_in_it() -> None:
    entry = bare_entry(AssetRef("default", "photos", "a"), Collection.IMAGE)
    (source,) = read(Hit(replace(entry, title="The harbour", text="NO ENTRY"), 1.0, ()))

    assert source.text == "The harbour\n\nNO ENTRY"


def test_a_title_alone_is_a_source_only_if_few_hits_have_more_words() -> None:
    image = bare_entry(AssetRef("default", "photos", "a"), Collection.IMAGE)
    hits = [Hit(replace(image, title="sample image 7"), 1.0, ()), text_hit("one", "b"), text_hit("two", "c")]

    assert [source.text for source in read(*hits, max_sources=2)] == ["one", "two"]
    assert [source.text for source in read(*hits, max_sources=3)] == ["sample image 7", "one", "two"]


def test_a_text_that_is_nearly_that_of_a_better_hit_is_left_out() -> None:
    assert len(read(text_hit(LONG, "a"), text_hit(LONG.replace(".", "!", 1) + "End.", "b"))) == 1


@pytest.mark.parametrize("other", ["It opened in 1954.", "It opened in 1953, they say."])
def test_texts_with_other_numbers_are_both_sources(other: str) -> None:
    assert len(read(text_hit(LONG + "It opened in 1953.", "a"), text_hit(LONG + other, "b"))) == (
        2 if "1954" in other else 1
    )


def test_a_short_passage_has_those_beside_it_without_what_they_repeat() -> None:
    document = "One is first. Two is next. Three is last."
    parts = [(0, 26), (14, 41)]
    entries = [
        replace(text_hit(document[start:end], part=part).entry, start_char=start, end_char=end)
        for part, (start, end) in enumerate(parts)
    ]
    (source,) = read(Hit(entries[1], 1.0, ()), beside=entries[:1])

    assert source.text == document


def test_a_short_passage_of_a_document_has_those_on_its_page_alone() -> None:
    before, passage, after = (
        text_hit(text, part=part, page=page, start_char=20 * part, end_char=20 * part + 15)
        for part, (text, page) in enumerate([("Page one.", 1), ("First of two.", 2), ("Second of two.", 2)])
    )
    (source,) = read(passage, beside=[before.entry, after.entry])

    assert source.text == "First of two. Second of two."


def test_an_image_on_a_page_gives_the_title_and_the_words_in_it() -> None:
    entry = bare_entry(AssetRef("default", "media.document", "a"), Collection.PAGE)
    (source,) = read(Hit(replace(entry, title="Report", text="Sales by month", page=3, figure=1), 1.0, ()))

    assert source.text == "Report\n\nSales by month"


def test_a_long_passage_stands_for_itself() -> None:
    hit, beside = text_hit(LONG, part=1), text_hit("Before it.", part=0)

    assert read(hit, beside=[beside.entry])[0].text == LONG.strip()


def test_a_neighbour_of_another_version_is_left_out() -> None:
    hit, beside = text_hit("Two.", part=1), text_hit("One.", part=0)

    assert read(hit, beside=[replace(beside.entry, origin=Position("notes", 0, 7))])[0].text == "Two."


def test_a_moment_gives_what_is_spoken_in_order_of_time_and_then_what_is_shown() -> None:
    first = timed(Collection.SPEECH, "the heron waits", 0, 1_000)
    second = timed(Collection.SPEECH, "by the river", 1_500, 2_000, part=1)
    third = timed(Collection.SPEECH, "then it flies", 9_000, 9_900, part=2)
    frame = timed(Collection.FRAME, "RIVER 5 KM", 0, 5_000)
    (source,) = read(moment_hit(third, frame, second, first))

    assert source.text == "the heron waits by the river\n\nthen it flies\n\nRIVER 5 KM"
    assert source.times == (
        TimedRange(0, 15, 0, 1_000),
        TimedRange(16, 28, 1_500, 2_000),
        TimedRange(30, 43, 9_000, 9_900),
        TimedRange(45, 55, 0, 5_000),
    )
    assert source.span_ms(10, 20) == (0, 2_000)


def test_the_same_words_in_two_frames_are_there_once() -> None:
    frames = [timed(Collection.FRAME, "RIVER", at, at + 1_000, part=at) for at in (0, 1_000)]

    assert read(moment_hit(*frames))[0].text == "RIVER"


def test_a_moment_without_words_gives_its_title() -> None:
    (source,) = read(moment_hit(timed(Collection.FRAME, "", 500, 900)))

    assert (source.text, source.times) == ("A film", (TimedRange(0, 6, 500, 900),))


def test_a_short_passage_of_speech_has_those_beside_it_unless_a_long_silence_is_between() -> None:
    before = timed(Collection.SPEECH, "long before", 0, 1_000)
    speech = timed(Collection.SPEECH, "the heron", 30_000, 31_000, part=1)
    after = timed(Collection.SPEECH, "eats fish", 31_100, 32_000, part=2)

    assert read(moment_hit(speech), beside=[before, after])[0].text == "the heron eats fish"


def test_a_quote_of_a_neighbour_has_the_time_of_the_neighbour() -> None:
    speech = timed(Collection.SPEECH, "The heron waits.", 30_000, 31_000, part=1)
    after = timed(Collection.SPEECH, "It eats fish.", 31_100, 32_000, part=2)

    read_sources = asyncio.run(SentenceChecker().read(read(moment_hit(speech), beside=[after])))

    assert [(sentence.start_ms, sentence.end_ms) for sentence in read_sources.sentences] == [
        (30_000, 31_000),
        (31_100, 32_000),
    ]


class Neighbours:
    """Has the entries beside passages, or raises."""

    def __init__(self, entries: Sequence[Entry], failure: Exception | None = None) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._failure = failure
        self.asked: list[set[str]] = []

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        self.asked.append(set(ids))
        if self._failure is not None:
            raise self._failure
        return {id_: self._entries[id_] for id_ in ids if id_ in self._entries}


@pytest.fixture
def executor() -> Iterator[BoundedExecutor]:
    executor = BoundedExecutor(threads=1, queue_size=1, clock=time.monotonic, calls="lookups", retry_after_s=1.0)
    yield executor
    executor.close()


def test_neighbours_are_looked_up_by_their_ids_unless_they_are_hits_themselves(executor: BoundedExecutor) -> None:
    hits = [text_hit("One.", part=0), text_hit("Two.", part=1)]
    third = text_hit("Three.", part=2).entry
    store: Any = Neighbours([third])

    sources = asyncio.run(SourceReader(store, executor).read(hits, access=Access.to_all_of("default"), max_sources=8))

    assert store.asked == [{third.id}]
    assert [source.text for source in sources] == ["One.", "Two. Three."]


def test_sources_do_without_neighbours_if_the_store_fails(executor: BoundedExecutor) -> None:
    store: Any = Neighbours([], UnavailableError("down"))

    (source,) = asyncio.run(
        SourceReader(store, executor).read([text_hit("Two.", part=1)], access=Access.to_all_of("t"), max_sources=8)
    )

    assert source.text == "Two."
