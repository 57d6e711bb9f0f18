"""Moments: properties of any entries (hypothesis), and the cases that decided what belongs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.fusion.base import Fusion, MomentRules
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
)
from penstock.query.fusion.choose import FusionChooser, RunningFusion
from penstock.query.fusion.moments import group, group_numbers, has_times, span_ms
from penstock.query.fusion.rrf import ReciprocalRankFusion
from penstock.query.fusion.scales import LogOddsScale
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.fusion.weighted import WeightedFusion
from penstock.query.types import FuseOptions, Hit
from penstock.records import AssetRef, Channel, Collection, Entry, Field, Position, ScoredEntry, bare_entry, entry_id
from tests.query.fusion.ranking import K, rank_hits

RULES = MomentRules(max_gap_ms=5_000, max_ms=60_000)
SPEECH_PASSAGE = Channel(Collection.SPEECH, Field.PASSAGE)
SPEECH_LEXICAL = Channel(Collection.SPEECH, Field.LEXICAL)
FRAME_JOINT = Channel(Collection.FRAME, Field.JOINT)
TEXT_PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
SPACES = {SPEECH_PASSAGE: "minilm", SPEECH_LEXICAL: "lexical", FRAME_JOINT: "clip", TEXT_PASSAGE: "minilm"}


# By ranks, by the z-scores of a fresh query plane, and by probabilities that rise towards the top of a ranking.
FUSIONS: Mapping[str, Callable[[Mapping[Collection, float]], Fusion]] = {
    "ranks": lambda weights: ReciprocalRankFusion(weights, k=K),
    "scores": lambda weights: RunningFusion(FusionChooser(ChannelStatistics()), FuseOptions(weights=weights)),
    "log-odds": lambda weights: WeightedFusion(FuseOptions(weights=weights), LogOddsScale(STEEP)),
}
STEEP = Calibration(
    {channel: ChannelCalibration(LogisticMap(100.0, -100.0), -60.0, 0.8, 0.1, "", "") for channel in SPACES},
    {collection: CollectionCalibration(-10.0, 0.8) for collection in Collection},
    Provenance({}, 100, 0, "reference"),
)
of_every_fusion = pytest.mark.parametrize("by", FUSIONS)


def entry(
    collection: Collection,
    start_s: float,
    end_s: float,
    *,
    key: str = "video",
    tenant: str = "default",
    offset: int = 0,
    text: str | None = None,
) -> Entry:
    asset = AssetRef(tenant, "media.video", key)
    transcript = f"spoken at {start_s:g}" if collection is Collection.SPEECH else ""
    return replace(
        bare_entry(asset, collection),
        id=entry_id(asset, collection, round(start_s * 1000)),
        title=key,
        text=transcript if text is None else text,
        mime="video/mp4",
        start_ms=round(start_s * 1000),
        end_ms=round(end_s * 1000),
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
    by: str = "ranks",
) -> list[Hit]:
    channels = {SPEECH_PASSAGE: speech, SPEECH_LEXICAL: lexical, FRAME_JOINT: frames, TEXT_PASSAGE: texts}
    return rank_hits(
        {
            channel: [ScoredEntry(entry, 1.0 - rank / 100) for rank, entry in enumerate(ranking)]
            for channel, ranking in channels.items()
            if ranking is not None
        },
        spaces=SPACES,
        weights=weights,
        moments=rules,
        limit=limit,
        fusion=FUSIONS[by](weights or {}),
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


any_entries = st.lists(any_entry(), unique_by=lambda entry: entry.id, max_size=25)
any_rules = st.builds(MomentRules, max_gap_ms=st.integers(0, 20_000), max_ms=st.integers(1, 90_000))


def gap_ms(first: Entry, second: Entry) -> int:
    return max(first.start_ms - second.end_ms, second.start_ms - first.end_ms, 0)


# --- properties of any entries ---------------------------------------------------------------------------------------


@given(any_entries, any_rules)
def test_every_entry_is_in_one_group_and_groups_stand_in_the_order_of_their_best(
    entries: list[Entry], rules: MomentRules
) -> None:
    groups = group(entries, rules)
    assert sorted(member.id for members in groups for member in members) == sorted(entry.id for entry in entries)
    ranks = {entry.id: rank for rank, entry in enumerate(entries)}
    assert [ranks[members[0].id] for members in groups] == sorted(ranks[members[0].id] for members in groups)
    assert all(ranks[before.id] < ranks[after.id] for members in groups for before, after in pairwise(members))


@given(any_entries, any_rules)
def test_few_entries_are_grouped_as_many_are(entries: list[Entry], rules: MomentRules) -> None:
    assert group_numbers(entries, rules, few=0) == group_numbers(entries, rules)


@given(any_entries, any_rules)
def test_a_group_is_of_one_version_of_one_asset_of_one_tenant(entries: list[Entry], rules: MomentRules) -> None:
    for members in group(entries, rules):
        assert len({(member.asset, member.origin) for member in members}) == 1


@given(any_entries, any_rules)
def test_members_are_close_to_the_best_one_and_a_moment_is_no_longer_than_the_rule(
    entries: list[Entry], rules: MomentRules
) -> None:
    for members in group(entries, rules):
        assert all(gap_ms(members[0], member) <= rules.max_gap_ms for member in members)
        start_ms, end_ms = span_ms(members)
        assert len(members) == 1 or end_ms - start_ms <= rules.max_ms


@given(any_entries, any_rules)
def test_an_entry_close_to_the_best_one_is_left_out_only_if_taken_already_or_too_long(
    entries: list[Entry], rules: MomentRules
) -> None:
    groups = group(entries, rules)
    for number, members in enumerate(groups):
        for entry in (entry for later in groups[number + 1 :] for entry in later):
            best = members[0]
            if (entry.asset, entry.origin) == (best.asset, best.origin) and has_times(entry) and has_times(best):
                start_ms, end_ms = span_ms([*members, entry])
                assert gap_ms(best, entry) > rules.max_gap_ms or end_ms - start_ms > rules.max_ms


@of_every_fusion
@given(some=any_entries, others=any_entries, rules=any_rules, limit=st.integers(1, 5), random=st.randoms())
def test_hits_depend_on_neither_the_order_of_channels_nor_the_limit(
    *, by: str, some: list[Entry], others: list[Entry], rules: MomentRules, limit: int, random: object
) -> None:
    spoken = [entry for entry in some if entry.collection is Collection.SPEECH]
    lexical = list(spoken)
    random.shuffle(lexical)  # type: ignore[attr-defined]
    shown = [entry for entry in others if entry.collection is Collection.FRAME]
    channels = {"speech": spoken, "lexical": lexical, "frames": shown, "texts": texts(2)}
    hits = run(by=by, **channels, rules=rules)
    shuffled = list(channels.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(by=by, **dict(shuffled), rules=rules) == hits
    assert run(by=by, **channels, rules=rules, limit=limit) == hits[:limit]


@of_every_fusion
@given(any_entries, any_rules)
def test_a_moment_covers_its_best_entry_and_explains_all_its_members(
    by: str, entries: list[Entry], rules: MomentRules
) -> None:
    spoken = [entry for entry in entries if entry.collection is Collection.SPEECH]
    shown = [entry for entry in entries if entry.collection is Collection.FRAME]
    explained = []
    for hit in run(by=by, speech=spoken, lexical=spoken[::-1], frames=shown, rules=rules):
        if hit.moment is None:
            explained += [(hit.entry.id, by.channel, by.rank) for by in hit.found_by]
            continue
        assert hit.moment.start_ms <= hit.moment.end_ms
        for member in hit.moment.members:
            if member.entry == hit.entry:
                assert hit.moment.start_ms <= member.entry.start_ms <= member.entry.end_ms <= hit.moment.end_ms
            explained += [(member.entry.id, by.channel, by.rank) for by in member.found_by]
        starts = [member.entry.start_ms for member in hit.moment.members]
        assert hit.moment.start_ms in starts
        assert hit.moment.end_ms in [member.entry.end_ms for member in hit.moment.members]
        assert starts == sorted(starts)
        assert hit.entry in [member.entry for member in hit.moment.members]
        all_hits = [by for member in hit.moment.members for by in member.found_by]
        assert {by.channel: by.rank for by in hit.found_by} == {
            channel: min(by.rank for by in all_hits if by.channel == channel)
            for channel in {by.channel for by in all_hits}
        }
    rankings = {SPEECH_PASSAGE: spoken, SPEECH_LEXICAL: spoken[::-1], FRAME_JOINT: shown}
    assert sorted(explained) == sorted(
        (entry.id, channel, rank)
        for channel, ranking in rankings.items()
        for rank, entry in enumerate(ranking, start=1)
    )


@of_every_fusion
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10))
def test_spoken_and_shown_ranks_above_what_is_only_one_of_them_at_no_better_rank(
    by: str, spoken_before: int, shown_before: int, after: int
) -> None:
    only_spoken = [speech(10, 20, key=f"spoken-{number}") for number in range(spoken_before + after)]
    only_shown = [frame(10, 20, key=f"shown-{number}") for number in range(shown_before + after)]
    spoken = [*only_spoken[:spoken_before], speech(10, 20, key="both"), *only_spoken[spoken_before:]]
    shown = [*only_shown[:shown_before], frame(10, 20, key="both"), *only_shown[shown_before:]]
    hit_keys = keys(run(by=by, speech=spoken, frames=shown))
    ranks = {entry.asset.key: rank for ranking in (spoken, shown) for rank, entry in enumerate(ranking)}
    worse = [key for key in hit_keys if key != "both" and ranks[key] >= max(spoken_before, shown_before)]
    assert all(hit_keys.index("both") < hit_keys.index(key) for key in worse)


# --- what belongs together --------------------------------------------------------------------------------------------


def test_an_overlap_or_a_gap_within_the_rule_joins_entries_and_a_longer_gap_does_not() -> None:
    spoken = speech(10, 20)
    assert group([spoken, frame(19, 30)], RULES) == [[spoken, frame(19, 30)]]
    assert group([spoken, frame(25, 30)], RULES) == [[spoken, frame(25, 30)]]
    assert group([spoken, frame(0, 5)], RULES) == [[spoken, frame(0, 5)]]
    assert group([spoken, frame(25.001, 30)], RULES) == [[spoken], [frame(25.001, 30)]]
    assert group([spoken, frame(0, 4.999)], RULES) == [[spoken], [frame(0, 4.999)]]


def test_a_moment_does_not_grow_further_from_what_it_took_in() -> None:
    """Otherwise a talk without a pause would be one moment, from its first passage in the rankings to its last."""
    talk = [speech(start, start + 10) for start in (40, 50, 30, 60, 20, 70)]
    assert group(talk, RULES) == [[talk[0], talk[1], talk[2]], [talk[3], talk[5]], [talk[4]]]


def test_a_long_shot_that_starts_far_before_the_best_entry_is_not_overlooked() -> None:
    late = speech(55, 58)
    assert group([late, frame(0, 54), frame(50, 51)], RULES) == [[late, frame(0, 54), frame(50, 51)]]


def test_a_moment_stays_within_its_length_and_takes_the_better_entries() -> None:
    best, before, after = speech(50, 70), frame(20, 48), frame(72, 100)
    assert group([best, after, before], RULES) == [[best, after], [before]]


@of_every_fusion
def test_a_shot_longer_than_a_moment_stands_alone_with_its_times(by: str) -> None:
    lecture, spoken = frame(0, 3_600), speech(100, 110)
    by_frame, by_text = run(by=by, speech=[spoken], frames=[lecture])
    assert (by_frame.moment.start_ms, by_frame.moment.end_ms) == (0, 3_600_000)  # type: ignore[union-attr]
    assert by_text.moment is not None
    assert [member.entry for member in by_text.moment.members] == [spoken]


@of_every_fusion
def test_the_entry_of_an_asset_without_speech_is_no_moment_and_joins_none(by: str) -> None:
    silent, first, later = speech(0, 0, text=" "), frame(0, 3), frame(60, 63)
    hits = run(by=by, speech=[silent], frames=[first, later])
    assert [(hit.entry, hit.moment is None) for hit in hits] == [(first, False), (silent, True), (later, False)]


@of_every_fusion
def test_words_at_the_very_start_and_the_first_frame_are_a_moment(by: str) -> None:
    (hit,) = run(by=by, speech=[speech(0, 0, text="Oh")], frames=[frame(0, 0)])
    assert hit.moment is not None
    assert (hit.moment.transcript, len(hit.moment.members)) == ("Oh", 2)


@of_every_fusion
def test_entries_of_two_versions_of_an_asset_are_not_joined(by: str) -> None:
    assert len(run(by=by, speech=[speech(10, 20, offset=7)], frames=[frame(10, 20, offset=3)])) == 2


# --- the parts of a moment -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["ranks", "log-odds"])
def test_a_moment_has_its_transcript_in_order_of_time_and_the_best_frame(by: str) -> None:
    spoken = [speech(12, 20, text="came back"), speech(5, 12, text="The heron"), speech(20, 25, text="in March.")]
    shown = [frame(17, 24), frame(6, 17)]
    (hit,) = run(by=by, speech=spoken, frames=shown)
    assert hit.moment is not None
    assert hit.moment.transcript == "The heron came back in March."
    assert hit.moment.frame == shown[0]
    assert (hit.moment.start_ms, hit.moment.end_ms) == (6_000, 24_000), (
        "those of its best frame and of the one scored nearly as high"
    )


@pytest.mark.parametrize(("scores", "times"), [((0.7, 0.6, 0.1), (4_000, 12_000)), ((0.7, 0.5, 0.1), (4_000, 9_000))])
def test_a_moment_lasts_as_long_as_its_best_entry_and_those_scored_nearly_as_high(
    scores: tuple[float, ...], times: tuple[int, int]
) -> None:
    shots = [frame(4, 9), frame(9, 12), frame(0, 4)]
    (hit,) = rank_hits(
        {
            FRAME_JOINT: [ScoredEntry(shot, score) for shot, score in zip(shots, scores, strict=True)],
            SPEECH_PASSAGE: [ScoredEntry(speech(2, 11), 0.9)],
        },
        spaces=SPACES,
        weights={Collection.SPEECH: 0.5},
        moments=RULES,
    )
    assert hit.moment is not None
    assert len(hit.moment.members) == 4
    assert (hit.moment.start_ms, hit.moment.end_ms) == times


def test_a_score_near_the_last_one_of_its_channel_is_not_nearly_as_high() -> None:
    shots = [frame(4, 9), frame(9, 12), frame(40, 44, key="another")]
    hits = rank_hits(
        {FRAME_JOINT: [ScoredEntry(shot, score) for shot, score in zip(shots, (0.9, 0.75, 0.7), strict=True)]},
        spaces=SPACES,
        moments=RULES,
    )
    assert hits[0].moment is not None
    assert (hits[0].moment.start_ms, hits[0].moment.end_ms) == (4_000, 9_000)


@of_every_fusion
def test_a_moment_that_is_only_spoken_has_no_frame(by: str) -> None:
    (hit,) = run(by=by, speech=[speech(5, 12)], frames=[])
    assert hit.moment is not None
    assert hit.moment.frame is None


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["ranks"])
def test_spoken_and_shown_at_second_rank_is_above_the_first_of_each_alone(by: str) -> None:
    hits = run(
        by=by,
        speech=[speech(0, 9, key=key) for key in ("spoken", "both", "b", "c", "d")],
        frames=[frame(0, 9, key=key) for key in ("shown", "both", "e", "f", "g")],
    )
    assert keys(hits)[0] == "both"


@of_every_fusion
def test_audio_does_not_rank_below_all_videos_because_it_has_no_frames(by: str) -> None:
    videos = [f"video-{number}" for number in range(6)]
    hits = run(
        by=by,
        speech=[speech(0, 9, key=key) for key in ("audio", *videos)],
        lexical=[speech(0, 9, key=key) for key in ("audio", *videos)],
        frames=[frame(0, 9, key=key) for key in reversed(videos)],
    )
    assert "audio" in keys(hits)[:2]


@pytest.mark.parametrize("by", ["ranks", "log-odds"])
def test_a_moment_grows_around_the_entry_that_more_channels_found(by: str) -> None:
    spoken = speech(2, 5)
    (hit, *_) = run(by=by, speech=[spoken], lexical=[spoken], frames=[frame(7, 12), frame(0, 7)])
    assert hit.moment is not None
    assert (hit.moment.start_ms, hit.moment.end_ms) == (2_000, 5_000)


@of_every_fusion
def test_the_best_of_one_collection_ranks_above_a_moment_that_is_poor_in_both(by: str) -> None:
    """If a collection without the moment counted as zero, the best speech would rank below what is eighth in both."""
    spoken, shown = ([f"{prefix}-{number}" for number in range(28)] for prefix in ("spoken", "shown"))
    hits = run(
        by=by,
        speech=[speech(0, 9, key=key) for key in (*spoken[:7], "both", *spoken[7:])],
        frames=[frame(0, 9, key=key) for key in (*shown[:7], "both", *shown[7:])],
    )
    assert {*keys(hits)[:2]} == {"spoken-0", "shown-0"}
    if by == "ranks":
        assert keys(hits)[2] == "both"


@of_every_fusion
def test_a_long_video_does_not_win_by_the_number_of_its_entries(by: str) -> None:
    many = [frame(start / 2, 9, key="long") for start in range(10)]
    hits = run(by=by, speech=[speech(0, 9, key="best")], frames=[frame(0, 9, key="best"), *many])
    assert keys(hits) == ["best", "long"]


def test_the_shots_of_one_moment_take_one_rank() -> None:
    """Otherwise ten shots of one video would put the next video on rank eleven, below ten texts."""
    shots = [frame(10 + number / 10, 20, key="video") for number in range(10)]
    hits = run(frames=[*shots, frame(0, 9, key="next")], texts=texts(10))
    assert keys(hits).index("next") == 3
    assert [hit.score for hit in hits if hit.moment] == [1 / (K + 1), 1 / (K + 2)]


@of_every_fusion
def test_the_best_text_does_not_rank_below_every_video_that_is_spoken_and_shown(by: str) -> None:
    videos = [str(number) for number in range(5)]
    hits = run(
        by=by,
        speech=[speech(0, 9, key=key) for key in videos],
        frames=[frame(0, 9, key=key) for key in videos],
        texts=texts(5),
    )
    assert [hit.moment is None for hit in hits] == [False, True] * 5


@of_every_fusion
def test_texts_and_their_scores_are_the_same_with_and_without_videos(by: str) -> None:
    alone = run(by=by, texts=texts(5))
    beside = run(by=by, texts=texts(5), speech=[speech(0, 9)], frames=[frame(0, 9)])
    assert [hit for hit in beside if hit.moment is None] == alone


@of_every_fusion
def test_frames_that_weigh_less_decide_less(by: str) -> None:
    channels = {
        "speech": [speech(0, 9, key="said"), speech(0, 9, key="seen")],
        "frames": [frame(0, 9, key="seen"), frame(0, 9, key="said")],
    }
    assert keys(run(by=by, **channels, weights={Collection.FRAME: 0.5})) == ["said", "seen"]
    assert keys(run(by=by, **channels, weights={Collection.SPEECH: 0.5})) == ["seen", "said"]


@of_every_fusion
def test_the_best_passage_by_meaning_and_the_best_by_bm25_count_together(by: str) -> None:
    by_meaning, by_text, other = speech(10, 15), speech(15, 20), speech(0, 9, key="other")
    hits = run(by=by, speech=[other, by_meaning], lexical=[other, by_text])
    assert [by.rank for by in hits[1].found_by] == [2, 2]
    assert keys(run(by=by, speech=[by_meaning, other], lexical=[by_text, other])) == ["video", "other"]


@of_every_fusion
def test_an_entry_whose_end_lies_before_its_start_is_no_moment(by: str) -> None:
    (hit,) = run(by=by, frames=[replace(frame(10, 20), end_ms=1)])
    assert hit.moment is None
