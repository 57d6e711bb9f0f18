"""Moments: what must hold for any entries (hypothesis), and the cases that decided what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.fusion.moments import MomentRules, group, has_times, span_ms
from penstock.query.fusion.rrf import fuse
from penstock.query.types import Hit
from penstock.records import (
    AssetRef,
    Channel,
    Collection,
    Entry,
    Field,
    Position,
    ScoredEntry,
    entry_id,
)

RULES = MomentRules(gap_ms=5_000, longest_ms=60_000)
SPEECH_PASSAGE = Channel(Collection.SPEECH, Field.PASSAGE)
SPEECH_LEXICAL = Channel(Collection.SPEECH, Field.LEXICAL)
FRAME_JOINT = Channel(Collection.FRAME, Field.JOINT)
TEXT_PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
SPACES = {SPEECH_PASSAGE: "minilm", SPEECH_LEXICAL: "lexical", FRAME_JOINT: "clip", TEXT_PASSAGE: "minilm"}
K = 10


def entry(
    collection: Collection,
    start_s: float,
    end_s: float,
    *,
    key: str = "film",
    tenant: str = "default",
    offset: int = 0,
    text: str | None = None,
) -> Entry:
    asset = AssetRef(tenant, "media.video", key)
    words = f"said at {start_s:g}" if collection is Collection.SPEECH else ""
    return Entry(
        id=entry_id(asset, collection, round(start_s * 1000)),
        collection=collection,
        asset=asset,
        part=0,
        title=key,
        text=words if text is None else text,
        uri="",
        mime="video/mp4",
        attributes_json="{}",
        start_ms=round(start_s * 1000),
        end_ms=round(end_s * 1000),
        start_char=0,
        end_char=0,
        event_time_ms=0,
        indexed_at_ms=0,
        origin=Position("media.video", 0, offset),
    )


def speech(start_s: float, end_s: float, **fields: object) -> Entry:
    return entry(Collection.SPEECH, start_s, end_s, **fields)  # type: ignore[arg-type]


def frame(start_s: float, end_s: float, **fields: object) -> Entry:
    return entry(Collection.FRAME, start_s, end_s, **fields)  # type: ignore[arg-type]


def run(
    *,
    speech: Sequence[Entry] | None = None,
    lexical: Sequence[Entry] | None = None,
    frames: Sequence[Entry] | None = None,
    texts: Sequence[Entry] | None = None,
    rules: MomentRules = RULES,
    weights: dict[Collection, float] | None = None,
    limit: int = 1_000,
) -> list[Hit]:
    channels = {SPEECH_PASSAGE: speech, SPEECH_LEXICAL: lexical, FRAME_JOINT: frames, TEXT_PASSAGE: texts}
    return fuse(
        {
            channel: [ScoredEntry(entry, 1.0 - rank / 100) for rank, entry in enumerate(ranking)]
            for channel, ranking in channels.items()
            if ranking is not None
        },
        spaces=SPACES,
        weights=weights or {},
        k=K,
        depths=dict.fromkeys(Collection, 50),
        moments=rules,
        limit=limit,
    )


def texts(count: int) -> list[Entry]:
    return [entry(Collection.TEXT, 0, 0, key=f"text-{number}") for number in range(count)]


def keys(hits: Sequence[Hit]) -> list[str]:
    return [hit.entry.asset.key for hit in hits]


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    start_s = draw(st.integers(0, 90))
    return entry(
        draw(st.sampled_from([Collection.SPEECH, Collection.FRAME])),
        start_s,
        start_s + draw(st.sampled_from([0, 1, 7, 30, 70])),
        key=draw(st.sampled_from("ab")),
        tenant=draw(st.sampled_from(["acme", "default"])),
        offset=draw(st.integers(0, 1)),
        text=draw(st.sampled_from(["", "words"])),
    )


any_entries = st.lists(any_entry(), unique_by=lambda one: one.id, max_size=25)
any_rules = st.builds(MomentRules, gap_ms=st.integers(0, 20_000), longest_ms=st.integers(1, 90_000))


def apart_ms(one: Entry, other: Entry) -> int:
    return max(one.start_ms - other.end_ms, other.start_ms - one.end_ms, 0)


# --- what must hold for any entries -----------------------------------------------------------------------------------


@given(any_entries, any_rules)
def test_every_entry_is_in_one_group_and_groups_stand_in_the_order_of_their_best(
    entries: list[Entry], rules: MomentRules
) -> None:
    groups = group(entries, rules)
    assert sorted(one.id for each in groups for one in each) == sorted(one.id for one in entries)
    ranks = {one.id: rank for rank, one in enumerate(entries)}
    assert [ranks[each[0].id] for each in groups] == sorted(ranks[each[0].id] for each in groups)
    assert all(ranks[before.id] < ranks[after.id] for each in groups for before, after in pairwise(each))


@given(any_entries, any_rules)
def test_a_group_is_of_one_version_of_one_asset_of_one_tenant(entries: list[Entry], rules: MomentRules) -> None:
    for each in group(entries, rules):
        assert len({(one.asset, one.origin) for one in each}) == 1


@given(any_entries, any_rules)
def test_all_of_a_moment_is_close_to_its_best_and_no_longer_than_the_rule(
    entries: list[Entry], rules: MomentRules
) -> None:
    for each in group(entries, rules):
        assert all(apart_ms(each[0], one) <= rules.gap_ms for one in each)
        start_ms, end_ms = span_ms(each)
        assert len(each) == 1 or end_ms - start_ms <= rules.longest_ms


@given(any_entries, any_rules)
def test_what_is_close_to_the_best_of_a_moment_is_left_out_only_if_it_is_taken_or_too_much(
    entries: list[Entry], rules: MomentRules
) -> None:
    groups = group(entries, rules)
    for number, each in enumerate(groups):
        for one in (one for later in groups[number + 1 :] for one in later):
            best = each[0]
            if (one.asset, one.origin) == (best.asset, best.origin) and has_times(one) and has_times(best):
                start_ms, end_ms = span_ms([*each, one])
                assert apart_ms(best, one) > rules.gap_ms or end_ms - start_ms > rules.longest_ms


@given(any_entries, any_entries, any_rules, st.integers(1, 5), st.randoms())
def test_hits_are_the_same_in_whatever_order_channels_come_and_as_many_as_asked_for(
    heard: list[Entry], seen: list[Entry], rules: MomentRules, limit: int, random: object
) -> None:
    said = [one for one in heard if one.collection is Collection.SPEECH]
    lexical = list(said)
    random.shuffle(lexical)  # type: ignore[attr-defined]
    shown = [one for one in seen if one.collection is Collection.FRAME]
    channels = {"speech": said, "lexical": lexical, "frames": shown, "texts": texts(2)}
    hits = run(**channels, rules=rules)
    shuffled = list(channels.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(**dict(shuffled), rules=rules) == hits
    assert run(**channels, rules=rules, limit=limit) == hits[:limit]


@given(any_entries, any_rules)
def test_a_moment_covers_its_best_entry_and_explains_all_its_members(entries: list[Entry], rules: MomentRules) -> None:
    said = [one for one in entries if one.collection is Collection.SPEECH]
    shown = [one for one in entries if one.collection is Collection.FRAME]
    told = []
    for hit in run(speech=said, lexical=said[::-1], frames=shown, rules=rules):
        if hit.moment is None:
            told += [(hit.entry.id, found.channel, found.rank) for found in hit.found_by]
            continue
        assert hit.moment.start_ms <= hit.moment.end_ms
        for member in hit.moment.members:
            if member.entry == hit.entry:
                assert hit.moment.start_ms <= member.entry.start_ms <= member.entry.end_ms <= hit.moment.end_ms
            told += [(member.entry.id, found.channel, found.rank) for found in member.found_by]
        starts = [member.entry.start_ms for member in hit.moment.members]
        assert hit.moment.start_ms in starts
        assert hit.moment.end_ms in [member.entry.end_ms for member in hit.moment.members]
        assert starts == sorted(starts)
        assert hit.entry in [member.entry for member in hit.moment.members]
        every = [found for member in hit.moment.members for found in member.found_by]
        assert {found.channel: found.rank for found in hit.found_by} == {
            channel: min(found.rank for found in every if found.channel == channel)
            for channel in {found.channel for found in every}
        }
    rankings = {SPEECH_PASSAGE: said, SPEECH_LEXICAL: said[::-1], FRAME_JOINT: shown}
    assert sorted(told) == sorted(
        (one.id, channel, rank) for channel, ranking in rankings.items() for rank, one in enumerate(ranking, start=1)
    )


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10))
def test_seen_and_said_stands_before_what_is_only_one_of_them_and_ranks_no_better(
    said_before: int, seen_before: int, after: int
) -> None:
    only_said = [speech(10, 20, key=f"said-{number}") for number in range(said_before + after)]
    only_seen = [frame(10, 20, key=f"seen-{number}") for number in range(seen_before + after)]
    said = [*only_said[:said_before], speech(10, 20, key="both"), *only_said[said_before:]]
    seen = [*only_seen[:seen_before], frame(10, 20, key="both"), *only_seen[seen_before:]]
    found = keys(run(speech=said, frames=seen))
    ranks = {one.asset.key: rank for ranking in (said, seen) for rank, one in enumerate(ranking)}
    worse = [key for key in found if key != "both" and ranks[key] >= max(said_before, seen_before)]
    assert all(found.index("both") < found.index(key) for key in worse)


# --- what belongs together --------------------------------------------------------------------------------------------


def test_overlap_and_a_gap_up_to_the_rule_join_and_a_longer_one_parts() -> None:
    said = speech(10, 20)
    assert group([said, frame(19, 30)], RULES) == [[said, frame(19, 30)]]
    assert group([said, frame(25, 30)], RULES) == [[said, frame(25, 30)]]
    assert group([said, frame(0, 5)], RULES) == [[said, frame(0, 5)]]
    assert group([said, frame(25.001, 30)], RULES) == [[said], [frame(25.001, 30)]]
    assert group([said, frame(0, 4.999)], RULES) == [[said], [frame(0, 4.999)]]


def test_a_moment_does_not_grow_on_from_what_it_took_in() -> None:
    """A talk without a pause would else be one moment from its first passage that was found to its last."""
    talk = [speech(start, start + 10) for start in (40, 50, 30, 60, 20, 70)]
    assert group(talk, RULES) == [[talk[0], talk[1], talk[2]], [talk[3], talk[5]], [talk[4]]]


def test_a_short_shot_far_behind_a_long_one_is_not_overlooked() -> None:
    late = speech(55, 58)
    assert group([late, frame(0, 54), frame(50, 51)], RULES) == [[late, frame(0, 54), frame(50, 51)]]


def test_a_moment_stays_within_its_length_and_takes_the_better_ones() -> None:
    best, before, after = speech(50, 70), frame(20, 48), frame(72, 100)
    assert group([best, after, before], RULES) == [[best, after], [before]]


def test_a_shot_longer_than_a_moment_stands_alone_with_its_times() -> None:
    lecture, said = frame(0, 3_600), speech(100, 110)
    by_frame, by_words = run(speech=[said], frames=[lecture])
    assert (by_frame.moment.start_ms, by_frame.moment.end_ms) == (0, 3_600_000)  # type: ignore[union-attr]
    assert by_words.moment is not None
    assert [member.entry for member in by_words.moment.members] == [said]


def test_the_entry_of_an_asset_without_speech_is_no_moment_and_joins_none() -> None:
    silent, first, later = speech(0, 0, text=" "), frame(0, 3), frame(60, 63)
    hits = run(speech=[silent], frames=[first, later])
    assert [(hit.entry, hit.moment is None) for hit in hits] == [(first, False), (silent, True), (later, False)]


def test_words_at_the_very_start_and_the_first_frame_are_a_moment() -> None:
    (hit,) = run(speech=[speech(0, 0, text="Oh")], frames=[frame(0, 0)])
    assert hit.moment is not None
    assert (hit.moment.transcript, len(hit.moment.members)) == ("Oh", 2)


def test_frames_of_a_version_that_is_being_replaced_are_of_another_recording() -> None:
    assert len(run(speech=[speech(10, 20, offset=7)], frames=[frame(10, 20, offset=3)])) == 2


# --- what a moment tells ----------------------------------------------------------------------------------------------


def test_a_moment_has_its_words_in_order_of_time_and_the_frame_that_was_found_best() -> None:
    said = [speech(12, 20, text="came back"), speech(5, 12, text="The heron"), speech(20, 25, text="in March.")]
    shown = [frame(17, 24), frame(6, 17)]
    (hit,) = run(speech=said, frames=shown)
    assert hit.moment is not None
    assert hit.moment.transcript == "The heron came back in March."
    assert hit.moment.frame == shown[0]
    assert (hit.moment.start_ms, hit.moment.end_ms) == (6_000, 24_000), (
        "as its best frame and the one found nearly as well"
    )


@pytest.mark.parametrize(("scores", "times"), [((0.7, 0.6, 0.1), (4_000, 12_000)), ((0.7, 0.5, 0.1), (4_000, 9_000))])
def test_a_moment_lasts_as_long_as_what_was_found_nearly_as_well_as_its_best(
    scores: tuple[float, ...], times: tuple[int, int]
) -> None:
    shots = [frame(4, 9), frame(9, 12), frame(0, 4)]
    (hit,) = fuse(
        {
            FRAME_JOINT: [ScoredEntry(shot, score) for shot, score in zip(shots, scores, strict=True)],
            SPEECH_PASSAGE: [ScoredEntry(speech(2, 11), 0.9)],
        },
        spaces=SPACES,
        weights={Collection.SPEECH: 0.5},
        k=K,
        depths=dict.fromkeys(Collection, 50),
        moments=RULES,
        limit=10,
    )
    assert hit.moment is not None
    assert len(hit.moment.members) == 4
    assert (hit.moment.start_ms, hit.moment.end_ms) == times


def test_to_a_model_to_which_all_pictures_are_near_a_neighbour_is_not_nearly_as_good() -> None:
    shots = [frame(4, 9), frame(9, 12), frame(40, 44, key="another")]
    hits = fuse(
        {FRAME_JOINT: [ScoredEntry(shot, score) for shot, score in zip(shots, (0.9, 0.75, 0.7), strict=True)]},
        spaces=SPACES,
        weights={},
        k=K,
        depths=dict.fromkeys(Collection, 50),
        moments=RULES,
        limit=10,
    )
    assert hits[0].moment is not None
    assert (hits[0].moment.start_ms, hits[0].moment.end_ms) == (4_000, 9_000)


def test_a_moment_that_is_only_heard_has_no_frame() -> None:
    (hit,) = run(speech=[speech(5, 12)], frames=[])
    assert hit.moment is not None
    assert hit.moment.frame is None


# --- scores -----------------------------------------------------------------------------------------------------------


def test_seen_and_said_at_second_rank_stands_before_the_first_of_each_alone() -> None:
    hits = run(
        speech=[speech(0, 9, key=key) for key in ("said", "both", "b", "c", "d")],
        frames=[frame(0, 9, key=key) for key in ("seen", "both", "e", "f", "g")],
    )
    assert keys(hits)[0] == "both"


def test_a_sound_recording_is_not_behind_all_films_because_it_has_no_pictures() -> None:
    films = [f"film-{number}" for number in range(6)]
    hits = run(
        speech=[speech(0, 9, key=key) for key in ("sound", *films)],
        lexical=[speech(0, 9, key=key) for key in ("sound", *films)],
        frames=[frame(0, 9, key=key) for key in reversed(films)],
    )
    assert "sound" in keys(hits)[:2]


def test_a_moment_grows_around_what_more_channels_agree_on() -> None:
    said = speech(2, 5)
    (hit, *_) = run(speech=[said], lexical=[said], frames=[frame(7, 12), frame(0, 7)])
    assert hit.moment is not None
    assert (hit.moment.start_ms, hit.moment.end_ms) == (2_000, 5_000)


def test_the_first_of_one_stands_before_what_is_found_by_both_but_not_well() -> None:
    """Counted as nothing where it is not found, what is said best would come after what is eighth in both."""
    said, seen = ([f"{how}-{number}" for number in range(28)] for how in ("said", "seen"))
    hits = run(
        speech=[speech(0, 9, key=key) for key in (*said[:7], "both", *said[7:])],
        frames=[frame(0, 9, key=key) for key in (*seen[:7], "both", *seen[7:])],
    )
    assert {*keys(hits)[:2]} == {"said-0", "seen-0"}
    assert keys(hits)[2] == "both"


def test_a_long_film_does_not_win_by_the_number_of_its_hits() -> None:
    many = [frame(start / 2, 9, key="long") for start in range(10)]
    hits = run(speech=[speech(0, 9, key="best")], frames=[frame(0, 9, key="best"), *many])
    assert keys(hits) == ["best", "long"]


def test_shots_of_one_moment_take_one_place() -> None:
    """Ten shots of one film would else put the next film on the eleventh place, behind ten texts."""
    shots = [frame(10 + number / 10, 20, key="film") for number in range(10)]
    hits = run(frames=[*shots, frame(0, 9, key="next")], texts=texts(10))
    assert keys(hits).index("next") == 3
    assert [hit.score for hit in hits if hit.moment] == [1 / (K + 1), 1 / (K + 2)]


def test_the_best_text_is_not_behind_every_film_that_is_seen_and_said() -> None:
    films = [str(number) for number in range(5)]
    hits = run(
        speech=[speech(0, 9, key=key) for key in films], frames=[frame(0, 9, key=key) for key in films], texts=texts(5)
    )
    assert [hit.moment is None for hit in hits] == [False, True] * 5


def test_texts_and_their_scores_are_the_same_with_and_without_films() -> None:
    alone = run(texts=texts(5))
    beside = run(texts=texts(5), speech=[speech(0, 9)], frames=[frame(0, 9)])
    assert [hit for hit in beside if hit.moment is None] == alone


def test_frames_that_weigh_less_decide_less() -> None:
    channels = {
        "speech": [speech(0, 9, key="said"), speech(0, 9, key="seen")],
        "frames": [frame(0, 9, key="seen"), frame(0, 9, key="said")],
    }
    assert keys(run(**channels, weights={Collection.FRAME: 0.5})) == ["said", "seen"]
    assert keys(run(**channels, weights={Collection.SPEECH: 0.5})) == ["seen", "said"]


def test_the_best_passage_by_meaning_and_the_best_by_words_of_one_moment_count_together() -> None:
    by_meaning, by_words, other = speech(10, 15), speech(15, 20), speech(0, 9, key="other")
    hits = run(speech=[other, by_meaning], lexical=[other, by_words])
    assert [(found.rank) for found in hits[1].found_by] == [2, 2]
    assert keys(run(speech=[by_meaning, other], lexical=[by_words, other])) == ["film", "other"]


def test_an_entry_whose_end_lies_before_its_start_is_no_moment() -> None:
    (hit,) = run(frames=[replace(frame(10, 20), end_ms=1)])
    assert hit.moment is None
