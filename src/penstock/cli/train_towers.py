"""`penstock train towers`: fine-tunes both towers of a CLIP model on captioned images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, say, stage_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.encoders.profiles import Profile
    from penstock.records import UInt8
    from penstock.train.towers import CaptionedImages


def towers(
    context: typer.Context,
    *,
    dataset: Annotated[Path, typer.Option("--set", metavar="SET", help="Evaluation set with images.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Write the model here, in open_clip's format.")],
    steps: Annotated[int, typer.Option(min=1, help="Batches.")] = 100,
    batch: Annotated[int, typer.Option(min=2, help="Pairs of a batch.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of AdamW.")] = 1e-5,
    captions: Annotated[float, typer.Option(min=0, help="Weight of the words of captions; 0: left out.")] = 0.1,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the order.")] = 0,
    profile: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as --profile.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune both towers of the profile's CLIP model on the split train of a set. Needs a GPU for real models.

    The result is another model: a profile that names its folder fills a new version of the index.
    """
    from penstock.encoders.clip import build, open_tokenizer
    from penstock.encoders.precision import choose_device
    from penstock.encoders.profiles import ClipSpec, load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.errors import UsageError
    from penstock.train.towers import TowerOptions, fine_tune_towers, save_towers

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(read_settings(context))
    models = load_profile(settings.profile)
    spec = models.joint
    if not isinstance(spec, ClipSpec) or models.joint_text_encoder != "joint.text":
        raise UsageError(f"profile {models.name} has no CLIP model with both towers; small and gpu have one")
    data = _read_images(dataset, models)
    device = choose_device(settings.device)
    options = TowerOptions(steps, batch, learning_rate, captions, seed, device)
    model = build(spec, "fp32", device)
    with stage_progress(quiet=as_json) as report:
        losses = fine_tune_towers(model, open_tokenizer(spec), data, spec, options, report=report)  # type: ignore[arg-type]
    save_towers(model, spec, out)  # type: ignore[arg-type]
    if as_json:
        print_json({"out": str(out), "pairs": len(data.captions), "losses": losses})
        return
    say(f"Written: {out}. {steps} steps on {len(data.captions)} pairs: loss {losses[0]:.3f} → {losses[-1]:.3f}.")


def _read_images(folder: Path, profile: Profile) -> CaptionedImages:
    import numpy as np

    from penstock.config import ImageSettings
    from penstock.errors import UsageError
    from penstock.evaluate.datasets import read_set
    from penstock.query.understand.image import query_image_decoder
    from penstock.train.towers import CaptionedImages

    dataset = read_set(folder)
    to_fit = dataset.select(split="train") if any(dataset.splits) else range(len(dataset.queries))
    pairs = [
        (dataset.queries[query].text, int(row))
        for query in to_fit
        for row in dataset.judgements.rows_of(int(query)).tolist()
        if dataset.queries[query].text and dataset.documents[row].image
    ]
    if len(pairs) < 2:
        raise UsageError(f"set {dataset.name} has no captioned images to train on")
    decode = query_image_decoder(profile.image, ImageSettings())

    def pixels(rows: Sequence[int]) -> UInt8:
        files = [dataset.documents[pairs[row][1]].image for row in rows]
        return np.stack([decode(file.read_bytes(), None) for file in files if file is not None])

    return CaptionedImages([text for text, _ in pairs], pixels, np.array([row for _, row in pairs]))
