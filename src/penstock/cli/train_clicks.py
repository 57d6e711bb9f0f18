"""`penstock train calibration --clicks` and `penstock train pairs`: fits to what people chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_store
from penstock.cli.render import print_json, say

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.query.fusion.calibration import Calibration
    from penstock.records import Choice, Entry, Float32
    from penstock.train.click_labels import LaterFigures


def fit_clicks(settings: Settings, profile: Profile, file: Path | None) -> tuple[Calibration, Path, Mapping[str, int]]:
    """Returns the calibration of the profile with its click channel fitted again, where it is kept, and the counts.

    Args:
        settings: of the store and the data folder.
        profile: of the index.
        file: to keep it in; None: where searches of this data folder look.

    Raises:
        UsageError: too few choices, or no calibration of the channels, without which choices cannot be fused.
    """
    from dataclasses import replace

    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.questions import question_encoder
    from penstock.errors import UsageError
    from penstock.query.calibrations import find_calibration, kept_file
    from penstock.query.fusion.calibration import write_calibration
    from penstock.train.clicks import fit_click_channel, judged_questions, split_by_time

    fingerprints = profile_fingerprints(profile)
    encoder = question_encoder(profile, fingerprints)
    calibration = find_calibration(settings.query.calibration, settings.data_dir, profile, fingerprints, "FLAT")
    if calibration is None:
        raise UsageError(
            f"profile {profile.name} has no calibration, and choices are fused with calibrated channels only: fit one "
            "to labelled questions first (`penstock train calibration --set`)"
        )
    past, future = split_by_time(_choices(settings, encoder))
    judged = judged_questions(future)
    fitted = replace(calibration, clicked=fit_click_channel(past, judged, encoder))
    target = file or kept_file(settings.data_dir, profile)
    write_calibration(fitted, target)
    return fitted, target, {"remembered": len(past), "later_questions": len(judged)}


def fit_channels(
    settings: Settings, profile: Profile, file: Path | None
) -> tuple[Calibration, Path, Mapping[str, int], LaterFigures]:
    """Fits the channels, too, to questions whose words were kept, and keeps the result unless later ones find less.

    Args:
        settings: of the store and the data folder.
        profile: of the index.
        file: to keep it in; None: where searches of this data folder look.

    Raises:
        UsageError: too few questions in words, or the later ones find less by the new calibration.
    """
    from dataclasses import replace

    from penstock.assembly import open_store
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.questions import question_encoder
    from penstock.errors import UsageError
    from penstock.query.calibrations import channel_encoders, channel_index_types, find_calibration, kept_file
    from penstock.query.fusion.calibration import Provenance, write_calibration
    from penstock.train.calibration import fit_calibration
    from penstock.train.click_labels import divide_questions, judge_later, label_questions, shares_of_index
    from penstock.train.labels import MIN_LABELS

    fingerprints = profile_fingerprints(profile)
    earlier, later = divide_questions(_choices(settings, question_encoder(profile, fingerprints)))
    if min(len(earlier), len(later)) < MIN_LABELS:
        raise UsageError(
            f"{len(earlier)} earlier and {len(later)} later questions with words and a choice are too few to fit the "
            f"channels to: it takes {MIN_LABELS} of each. Words are kept with feedback.keep_questions"
        )
    with ExitStack() as opened:
        store = open_store(settings.store)
        opened.callback(store.close)
        embed = opened.enter_context(_question_vectors(settings, profile))
        labelled, held_out = (
            label_questions(questions, store, profile, embed, timeout_s=settings.store.timeout_s)
            for questions in (earlier, later)
        )
        shares = shares_of_index(store, {question.tenant for question in later})
        dense_index = store.capabilities.dense_index
    in_use = find_calibration(settings.query.calibration, settings.data_dir, profile, fingerprints, dense_index)
    encoders, index_types = channel_encoders(profile, fingerprints), channel_index_types(dense_index)
    provenance = Provenance({}, len(labelled), 0, Path(profile.name).stem)
    fitted = fit_calibration(labelled, encoders, index_types, provenance)
    fitted = replace(fitted, clicked=None if in_use is None else in_use.clicked)
    figures = judge_later(held_out, shares, in_use, fitted)
    if figures.fitted < figures.base:
        raise UsageError(
            f"{figures.questions} later questions find less by it, MRR@10 {100 * figures.fitted:.1f} instead of "
            f"{100 * figures.base:.1f}: nothing was written, and the calibration in use stays"
        )
    target = file or kept_file(settings.data_dir, profile)
    write_calibration(fitted, target)
    return fitted, target, {"questions": len(labelled), "later_questions": len(held_out)}, figures


@contextmanager
def _question_vectors(settings: Settings, profile: Profile) -> Iterator[Callable[[str, Sequence[str]], Float32]]:
    """Yields a function from an encoder and questions to their vectors. None of them stays on the disk."""
    import tempfile

    from penstock.evaluate.vectors import VectorFiles

    with tempfile.TemporaryDirectory(prefix="penstock-questions-") as folder:
        yield VectorFiles(Path(folder), profile, precision=settings.precision, device=settings.device).texts


def pairs(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the pairs here, one JSON object a line.")],
    as_json: JsonFlag = False,
) -> None:
    """Write what people chose as pairs of a question and a text, for `penstock train adapter --pairs`.

    Only choices whose words were kept (the setting feedback.keep_questions) and whose entry has words become pairs.
    """
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.train.clicks import write_pairs

    settings = with_selected_profile(connected_settings(context))
    require_store(settings)
    chosen, choices = read_click_pairs(settings)
    count = write_pairs(chosen, out)
    if as_json:
        print_json({"choices": choices, "pairs": count, "file": str(out)})
    else:
        say(f"Written: {count:,} pairs of {choices:,} choices to {out}.")


def read_click_pairs(settings: Settings) -> tuple[list[Mapping[str, object]], int]:
    """Returns what people chose as pairs, the earliest first, and the number of choices that there are.

    A pair has `question`, `text`, `tenant`, and `time` in seconds since the epoch.

    Args:
        settings: with the addresses of the store and a profile that is not auto.

    Raises:
        UnavailableError: the store does not answer.
    """
    from penstock.assembly import open_store
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.questions import question_encoder
    from penstock.records import Access
    from penstock.train.clicks import choice_pairs

    profile = load_profile(settings.profile)
    choices = _choices(settings, question_encoder(profile, profile_fingerprints(profile)))
    with ExitStack() as opened:
        store = open_store(settings.store)
        opened.callback(store.close)

        def read(tenant: str, ids: Sequence[str]) -> Mapping[str, Entry]:
            return store.entries(ids, access=Access.to_all_of(tenant), timeout_s=settings.store.timeout_s)

        return list(choice_pairs(choices, read)), len(choices)


def _choices(settings: Settings, encoder: str) -> list[Choice]:
    from penstock.assembly import open_clicks

    clicks = open_clicks(settings.store, encoder)
    try:
        return [choice for page in clicks.scan(with_vectors=True) for choice in page]
    finally:
        clicks.close()
