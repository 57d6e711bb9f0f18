"""`penstock train fusion`: trains cross-attention over the vectors of an asset, and shows what each part is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_table, say, stage_progress

if TYPE_CHECKING:
    from penstock.train.fusion.measure import FusionRow

DRAWS = 10_000


def fusion(
    context: typer.Context,
    *,
    folder: Annotated[
        Path, typer.Option("--set", metavar="SET", help="Folder of a set with texts, images and splits.")
    ],
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Trainings of each fusion, whose mean counts.")] = 5,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as the global option --profile.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the first training and of the intervals.")] = 0,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors. Default: in the data folder.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure learned fusion: averages, α, gates and cross-attention, with each of its seven rules on and off.

    Assets are what the documents of one question make together. MRR@10 on test is compared with one number, the α of
    late fusion that dev chooses. Searches do not use a learned fusion: on the sets here none beats that number after
    Holm's correction (docs/measured-retrieval.md).
    """
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.offline import search_offline
    from penstock.evaluate.vectors import VectorFiles
    from penstock.train.fusion.asset_tokens import read_assets
    from penstock.train.fusion.measure import FusionData, measure_fusion, use_one_thread

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(read_settings(context))
    models = load_profile(settings.profile)
    stored = VectorFiles(
        vectors or settings.data_dir / "evaluation" / "vectors",
        models,
        precision=settings.precision,
        device=settings.device,
    )
    use_one_thread()
    with stage_progress(quiet=as_json) as report:
        report("reading", 0, None)
        dataset = read_set(folder)
        data = FusionData.of(read_assets(dataset, stored), search_offline(dataset, stored))
        rows = measure_fusion(
            data,
            seeds=range(seed, seed + seeds),
            draws=DRAWS,
            seed=seed,
            report=lambda name: report(name, 0, None),
        )
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    _show(rows)
    say(f"{len(data.train.rows)} questions to train on, {len(data.dev.rows)} of dev, {len(data.test.rows)} of test.")


def _show(rows: Sequence[FusionRow]) -> None:
    print_table([
        {
            "fusion": row.fusion,
            "MRR@10": f"{100 * row.figure.mean:.1f} [{100 * row.figure.low:.1f}, {100 * row.figure.high:.1f}]",
            "sd of seeds": f"{100 * row.deviation:.1f}",
            "Δ to late α": f"{100 * row.difference.mean:+.1f} [{100 * row.difference.low:+.1f}, "
            f"{100 * row.difference.high:+.1f}]",
            "p (Holm)": f"{row.corrected_p:.4f}",
            "train s": f"{row.seconds:.1f}",
            "score p95 ms": f"{row.score_ms:.2f}",
            "masking": "" if row.masking is None else f"{row.masking.share:.0%} of {row.masking.cases}",
        }
        for row in rows
    ])  # fmt: skip
