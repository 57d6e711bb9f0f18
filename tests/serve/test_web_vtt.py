"""Captions: escaped, in order, without overlaps, short enough to read."""

from __future__ import annotations

import random
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.serve.web_vtt import MAX_CUE_WIDTH, Cue, web_vtt

TIMES = re.compile(r"(\d+):(\d\d):(\d\d)\.(\d{3}) --> (\d+):(\d\d):(\d\d)\.(\d{3})")


def read(text: str) -> list[Cue]:
    """Reads the cues of a WebVTT file, as far as this program writes them."""
    head, *blocks = text.split("\n\n")
    assert head.strip() == "WEBVTT"
    cues = []
    for block in filter(None, (block.strip("\n") for block in blocks)):
        name, times, words = block.split("\n")
        match = TIMES.fullmatch(times)
        assert match
        start, end = (
            ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest)
            for hours, minutes, seconds, rest in (match.groups()[:4], match.groups()[4:])
        )
        unescaped = words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        cues.append(Cue(start, end, unescaped, name))
    return cues


def test_markup_and_line_breaks_of_a_transcript_are_text() -> None:
    text = web_vtt([Cue(0, 2_000, "<b>a</b> --> c & d\n\n00:00 --> 00:09\x00 \ud800", "e1")])
    assert "<" not in text.replace("-->", "", 1)
    assert text.count("-->") == 1
    assert [cue.text for cue in read(text)] == ["<b>a</b> --> c & d 00:00 --> 00:09"]
    text.encode()


def test_a_long_passage_becomes_readable_cues_that_share_its_time() -> None:
    words = [f"word{number}" for number in range(80)]
    cues = read(web_vtt([Cue(10_000, 40_000, " ".join(words), "e1")]))
    assert " ".join(cue.text for cue in cues) == " ".join(words)
    assert max(len(cue.text) for cue in cues) <= MAX_CUE_WIDTH + 6
    assert (cues[0].start_ms, cues[-1].end_ms) == (10_000, 40_000)
    assert [cue.name for cue in cues] == [f"e1-{number}" for number in range(1, len(cues) + 1)]
    assert all(4_000 < cue.end_ms - cue.start_ms < 6_500 for cue in cues)


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    cues = read(web_vtt([Cue(0, 9_000, "手机" * 60, "e1")]))
    assert "".join(cue.text for cue in cues) == "手机" * 60
    assert max(len(cue.text) for cue in cues) <= MAX_CUE_WIDTH / 2 + 1


@given(
    st.lists(
        st.builds(Cue, st.integers(0, 50_000), st.integers(0, 50_000), st.text(max_size=200), st.just("e")), max_size=8
    )
)
def test_cues_never_overlap(cues: list[Cue]) -> None:
    written = read(web_vtt(cues))
    assert all(cue.start_ms < cue.end_ms for cue in written)
    assert all(cue.end_ms <= later.start_ms for cue, later in pairwise(written))


def test_cues_are_in_order_of_time() -> None:
    cues = [Cue(n * 3_000, n * 3_000 + 2_500, f"part {n}", f"e{n}") for n in range(1_300)]
    shuffled = random.Random(3).sample(cues, len(cues))
    assert [cue.text for cue in read(web_vtt(shuffled))] == [cue.text for cue in cues]
    assert "01:04:57.000 --> 01:04:59.500" in web_vtt(shuffled)
