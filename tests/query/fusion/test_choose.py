"""The choice of the fusion: what calibrations and statistics there are decides what is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.config import FusionMethod, Normalisation
from penstock.encoders.profiles import JOINT_IMAGE
from penstock.errors import QueryError
from penstock.query.fusion.base import Fusion
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.rrf import ReciprocalRankFusion
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions, Rankings
from penstock.records import Channel, Collection
from tests.query.fusion.test_rrf import IMAGE_JOINT, TEXT_LEXICAL, TEXT_PASSAGE
from tests.query.fusion.test_weighted import CALIBRATION, RULES, rankings_of

SCORES = {
    TEXT_PASSAGE: {1: 0.5, 2: 0.45, 3: 0.1},
    TEXT_LEXICAL: {1: 2.0, 2: 7.0},
    IMAGE_JOINT: {1: 0.7, 2: 0.3, 3: 0.1},
}


def without(calibration: Calibration, collection: Collection) -> Calibration:
    channels = {
        channel: of_channel
        for channel, of_channel in calibration.channels.items()
        if channel.collection is not collection
    }
    return replace(calibration, channels=channels)


def choose(calibration: Calibration | None, options: FuseOptions | None = None, **rankings: object) -> Fusion:
    of_question = replace(rankings_of(SCORES), **rankings)  # type: ignore[arg-type]
    return FusionChooser(ChannelStatistics(), calibration).choose(options or FuseOptions(), of_question)


def ranked(fusion: Fusion, rankings: Rankings | None = None) -> list[tuple[str, float]]:
    return [(c.best.id, score) for score, c in fusion.rank(rankings or rankings_of(SCORES), RULES, 10)]


def test_with_calibrations_of_all_channels_log_odds_are_compared() -> None:
    by_log_odds = choose(CALIBRATION, FuseOptions(FusionMethod.WEIGHTED, Normalisation.LOG_ODDS))
    assert ranked(choose(CALIBRATION)) == ranked(by_log_odds)


def test_without_calibration_z_scores_by_channel_are_compared() -> None:
    chooser = FusionChooser(ChannelStatistics())
    rankings = rankings_of(SCORES)
    chooser.statistics.observe(rankings, 50)
    by_channel = FuseOptions(FusionMethod.WEIGHTED, Normalisation.Z_BY_CHANNEL)
    calibrated, weighted = (chooser.choose(options, rankings) for options in (FuseOptions(), by_channel))
    assert ranked(calibrated) == ranked(weighted)


def test_a_calibrated_collection_keeps_its_order_among_others_that_are_not() -> None:
    """Log-odds order the texts; where they stand among the images is decided by z-scores, the best first."""
    partial = without(CALIBRATION, Collection.IMAGE)
    chooser = FusionChooser(ChannelStatistics(), partial)
    rankings = rankings_of(SCORES)
    chooser.statistics.observe(rankings, 50)
    result = ranked(chooser.choose(FuseOptions(), rankings))
    z_scores = ranked(chooser.choose(FuseOptions(FusionMethod.WEIGHTED, Normalisation.Z_BY_CHANNEL), rankings))
    log_odds = ranked(choose(CALIBRATION))
    for kind, order in (("text", log_odds), ("image", z_scores)):
        assert [id_ for id_, _ in result if id_.startswith(kind)] == [id_ for id_, _ in order if id_.startswith(kind)]
    assert sorted(score for _, score in result) == pytest.approx(sorted(score for _, score in z_scores))


def test_a_channel_that_is_missing_leaves_the_calibration_of_the_others() -> None:
    partial = {channel: scores for channel, scores in SCORES.items() if channel != IMAGE_JOINT}
    chooser = FusionChooser(ChannelStatistics(), without(CALIBRATION, Collection.IMAGE))
    rankings = rankings_of(partial)
    by_log_odds = FuseOptions(FusionMethod.WEIGHTED, Normalisation.LOG_ODDS)
    assert ranked(chooser.choose(FuseOptions(), rankings), rankings) == ranked(
        chooser.choose(by_log_odds, rankings), rankings
    )


def test_a_question_by_image_does_not_use_a_calibration_that_is_fitted_to_words() -> None:
    encoders: dict[Channel, str | None] = dict.fromkeys(SCORES, JOINT_IMAGE)
    by_log_odds = FuseOptions(FusionMethod.WEIGHTED, Normalisation.LOG_ODDS)
    with pytest.raises(QueryError, match=r"image\.joint, text\.lexical, text\.passage has none"):
        choose(CALIBRATION, by_log_odds, encoders=encoders)
    assert ranked(choose(CALIBRATION, encoders=encoders)) != ranked(choose(CALIBRATION))


def test_log_odds_without_a_calibration_are_refused_and_name_the_channels() -> None:
    by_log_odds = FuseOptions(FusionMethod.WEIGHTED, Normalisation.LOG_ODDS)
    with pytest.raises(QueryError, match=r"image\.joint has none") as refused:
        choose(without(CALIBRATION, Collection.IMAGE), by_log_odds)
    assert (refused.value.status, refused.value.field) == (400, "/fuse/normalise")


def test_ranks_stay_a_choice() -> None:
    assert isinstance(choose(CALIBRATION, FuseOptions(FusionMethod.RRF)), ReciprocalRankFusion)
