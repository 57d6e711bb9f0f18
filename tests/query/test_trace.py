"""Tests of the times and the missing channels of one search."""

from __future__ import annotations

from penstock.query.trace import Trace
from penstock.records import Channel, Collection, Field

IMAGE_JOINT = Channel(Collection.IMAGE, Field.JOINT)
TEXT_LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


class SettableClock:
    """A clock that a test sets, seconds."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_step_lasts_from_the_end_of_the_step_before_it_to_its_own_last_end() -> None:
    clock = SettableClock()
    trace = Trace(clock)
    for step, ends_s in (("search", 100.25), ("search", 100.5), ("fuse", 101.0)):
        clock.now_s = ends_s
        trace.end(step)
    assert trace.took_ms() == {"search": 500.0, "fuse": 500.0, "total": 1000.0}


def test_a_step_that_overlaps_the_next_is_counted_up_to_its_end_and_the_next_from_there() -> None:
    clock = SettableClock()
    trace = Trace(clock)
    trace.begin("encode")
    clock.now_s = 100.25
    trace.end("encode")
    clock.now_s = 100.5
    trace.end("search")
    assert trace.took_ms() == {"encode": 250.0, "search": 250.0, "total": 500.0}


def test_a_step_that_never_ends_takes_no_time() -> None:
    clock = SettableClock()
    trace = Trace(clock)
    trace.begin("encode")
    clock.now_s = 100.5
    trace.end("search")
    assert trace.took_ms() == {"encode": 0.0, "search": 500.0, "total": 500.0}


def test_only_failed_channels_make_a_result_partial() -> None:
    trace = Trace(SettableClock())
    trace.add_unavailable({IMAGE_JOINT: "not offered by this store"})
    trace.add_failed({})
    assert not trace.partial
    trace.add_failed({TEXT_LEXICAL: "did not answer within the deadline"})
    assert trace.partial
    assert trace.missing.keys() == {IMAGE_JOINT, TEXT_LEXICAL}
