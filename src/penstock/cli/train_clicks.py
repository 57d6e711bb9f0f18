"""`penstock train calibration --clicks` and `penstock train pairs`: fits to what people chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_store
from penstock.cli.render import print_json, say

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.query.fusion.calibration import Calibration
    from penstock.records import Choice, Entry


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
