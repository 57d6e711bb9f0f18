"""Server-sent events, however their bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.client.event_reader import EventReader, ReceivedEvent

STREAM = (
    "\ufeff: a comment\n\nretry: 1000\nid: 1\nevent: token\ndata: a\u2028b \u00e9 \U0001f422\n\n"
    "event: nothing\n\ndata:no space\r\ndata\r\ndata: third\r\n\r\nid: 2\revent: done\rdata: {}\r\rdata: cut"
)
EVENTS = [
    ReceivedEvent("token", "a\u2028b \u00e9 \U0001f422", "1"),
    ReceivedEvent("message", "no space\n\nthird", "1"),
    ReceivedEvent("done", "{}", "2"),
]


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=12))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    data, reader = STREAM.encode(), EventReader()
    ends = [*sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert reader.last_id == "2"
