"""`penstock train adapter`: fits a map of question or document vectors to pairs, and judges it by the gate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_store
from penstock.cli.render import print_json, print_table, say, stage_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.config import Settings
    from penstock.encoders.profiles import Profile
    from penstock.train.adapter_training import TrainedAdapter, TrainingJob
    from penstock.train.adapters import AdapterOptions
    from penstock.train.alignment_data import AlignmentData
    from penstock.train.gate import SliceGain
    from penstock.train.heads import HeadKind
    from penstock.train.trainer import Recipe

_Kind = Literal["ridge", "procrustes", "linear", "low-rank", "mlp", "projection"]
_Loss = Literal["info-nce", "sigmoid", "triplet", "triplet-random", "contrastive", "cosine"]
_Side = Literal["query", "document", "both"]

_SetOption = Annotated[
    Path | None, typer.Option("--set", metavar="SET", help="Folder of an evaluation set (docs/evaluate.md).")
]
_PairsOption = Annotated[
    Path | None, typer.Option("--pairs", metavar="FILE.jsonl", help="File of pairs (docs/adapters.md).")
]
_ClicksOption = Annotated[bool, typer.Option("--clicks", help="Fit to what people chose (docs/feedback.md).")]
_NameOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the adapter. Default: data, language and kind.")
]
_LangOption = Annotated[
    str | None, typer.Option(metavar="CODE", help="Fit to questions of this language, for them alone (ISO 639-1).")
]
_CountOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Pairs to fit to. Default: all.")]
_ModalityOption = Annotated[
    Literal["text", "image"] | None, typer.Option(help="Documents of a set. Default: its texts, else its images.")
]
_SideOption = Annotated[
    _Side, typer.Option(help="Vectors that are mapped. Those of questions need no new index; others do.")
]
_KindOption = Annotated[_Kind, typer.Option(help="Form of the map; ridge and procrustes are fitted in closed form.")]


def adapter(
    context: typer.Context,
    *,
    dataset: _SetOption = None,
    pairs: _PairsOption = None,
    clicks: _ClicksOption = False,
    name: _NameOption = None,
    lang: _LangOption = None,
    count: _CountOption = None,
    modality: _ModalityOption = None,
    side: _SideOption = "query",
    kind: _KindOption = "ridge",
    loss: Annotated[_Loss, typer.Option(help="Loss of heads that are trained.")] = "info-nce",
    dim: Annotated[int | None, typer.Option(metavar="N", min=1, help="Dimensions of a projection.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, max=1.0, help="Temperature of InfoNCE.")] = 0.07,
    learn_temperature: Annotated[bool, typer.Option("--learn-temperature", help="Train the temperature.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 100,
    hard_negatives: Annotated[int, typer.Option(min=0, help="Hard negatives of each question.")] = 0,
    negative_margin: Annotated[float, typer.Option(min=0, help="Share of the right cosine that bounds them.")] = 0.05,
    gradient_noise: Annotated[float, typer.Option(min=0, help="Deviation of noise on gradients.")] = 0.0,
    vector_noise: Annotated[float, typer.Option(min=0, help="Length of noise on vectors.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.9, help="Smoothing of InfoNCE.")] = 0.0,
    adversary: Annotated[float, typer.Option(min=0, help="Weight of a modality discriminator.")] = 0.0,
    teacher: Annotated[str | None, typer.Option(metavar="PROFILE", help="Learn from its similarities, too.")] = None,
    distillation: Annotated[float, typer.Option(min=0, help="Weight of the teacher.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the choice of pairs and of training.")] = 0,
    test: Annotated[bool, typer.Option("--test", help="Measure the split test, too; the gate never reads it.")] = False,
    profile: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as --profile.")] = None,
    vectors: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit a small map to pairs of questions and right documents, and judge it by other questions.

    Fits to the split train, and judges by the split dev. Writes the adapter to the folder `adapters` of the data
    folder, and beside it a card with all figures. `penstock adapter promote NAME` puts one into use that the gate
    passes.

    Over the limit because each option is an argument.
    """
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(connected_settings(context))
    models = load_profile(settings.profile)
    data = _read_data(settings, models, vectors, dataset=dataset, pairs=pairs, clicks=clicks, modality=modality)
    training = {
        "loss": loss, "output_dim": dim, "temperature": temperature, "learn_temperature": learn_temperature,
        "epochs": epochs, "gradient_noise": gradient_noise, "vector_noise": vector_noise,
        "label_smoothing": label_smoothing, "adversary": adversary,
        "distillation": distillation if teacher else 0.0,
    }  # fmt: skip
    job = _job(
        name or _default_name(data.name, lang, kind),
        data,
        settings,
        models,
        options=_options(kind, lang, count, seed=seed, hard_negatives=hard_negatives, margin=negative_margin),
        side=side,
        recipe=_recipe(kind, side, training),
        teacher=None if teacher is None else _teacher_data(settings, teacher, vectors, dataset, modality),
        with_test=test,
    )
    with stage_progress(quiet=as_json) as report:
        from penstock.train.adapter_training import train_adapter

        trained = train_adapter(job, report)
    _write(trained, settings.data_dir / "adapters")
    _show(trained, settings.data_dir / "adapters", as_json=as_json)


def adapter_file(folder: Path, name: str) -> Path:
    """Returns the file of an adapter that was trained here."""
    return folder / f"{name}.safetensors"


def show_gains(slices: Sequence[SliceGain], title: str) -> None:
    """Prints the figures by slice."""
    print_table(
        [
            {
                "questions": gain.name,
                "number": gain.questions,
                "MRR@10 before": f"{100 * gain.base:.1f}",
                "with it": f"{100 * gain.adapted:.1f}",
                "gain": f"{100 * gain.gain.mean:+.1f} [{100 * gain.gain.low:+.1f}, {100 * gain.gain.high:+.1f}]",
                "": "falls" if gain.falls else "",
            }
            for gain in slices
        ],
        title=title,
    )


def _read_data(
    settings: Settings,
    profile: Profile,
    vectors: Path | None,
    *,
    dataset: Path | None,
    pairs: Path | None,
    clicks: bool,
    modality: str | None,
) -> AlignmentData:
    from penstock.cli.train_clicks import read_click_pairs
    from penstock.errors import UsageError
    from penstock.evaluate.datasets import read_set
    from penstock.records import Modality
    from penstock.train.alignment_data import read_alignment
    from penstock.train.pairs import align_pairs, parse_pairs, read_pairs

    if sum((dataset is not None, pairs is not None, clicks)) != 1:
        raise UsageError("give one of --set, --pairs and --clicks")
    stored = _vector_files(settings, profile, vectors)
    if pairs is not None:
        return align_pairs(read_pairs(pairs), stored, pairs.stem)
    if dataset is not None:
        return read_alignment(read_set(dataset), stored, modality=None if modality is None else Modality(modality))
    require_store(settings)
    chosen, _ = read_click_pairs(settings)
    return align_pairs(parse_pairs(chosen, "choice"), stored, "clicks")


def _vector_files(settings: Settings, profile: Profile, vectors: Path | None) -> Any:
    from penstock.evaluate.vectors import VectorFiles

    folder = vectors or settings.data_dir / "evaluation" / "vectors"
    return VectorFiles(folder, profile, precision=settings.precision, device=settings.device)


def _teacher_data(
    settings: Settings, teacher: str, vectors: Path | None, dataset: Path | None, modality: str | None
) -> AlignmentData:
    from penstock.encoders.profiles import load_profile
    from penstock.errors import UsageError

    if dataset is None:
        raise UsageError("--teacher needs --set")
    return _read_data(
        settings, load_profile(teacher), vectors, dataset=dataset, pairs=None, clicks=False, modality=modality
    )


def _options(
    kind: _Kind, lang: str | None, count: int | None, *, seed: int, hard_negatives: int, margin: float
) -> AdapterOptions:
    from penstock.train.adapters import AdapterOptions
    from penstock.train.hard_negatives import NegativeFilter

    return AdapterOptions(kind, lang, count, seed, hard_negatives, NegativeFilter("relative", margin))


def _recipe(kind: _Kind, side: _Side, training: dict[str, Any]) -> Recipe | None:
    from penstock.train.adapters import CLOSED_FORMS

    if kind in CLOSED_FORMS:
        return None
    from penstock.train.trainer import Recipe

    return Recipe(head=cast("HeadKind", kind), side=side, **training)


def _job(
    name: str,
    data: AlignmentData,
    settings: Settings,
    profile: Profile,
    *,
    options: AdapterOptions,
    side: _Side,
    recipe: Recipe | None,
    teacher: AlignmentData | None,
    with_test: bool,
) -> TrainingJob:
    from penstock.encoders.load import fingerprint
    from penstock.encoders.precision import choose_device
    from penstock.errors import UsageError
    from penstock.query.adapters import encoder_text
    from penstock.train.adapter_training import TrainingJob

    if not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"the name {name!r} of an adapter has letters, digits, hyphens, dots and underscores only")
    encoder = encoder_text(fingerprint(data.role, profile))
    device = "cpu" if recipe is None else choose_device(settings.device)
    return TrainingJob(name, data, encoder, options, side, recipe, teacher, with_test, device)


def _default_name(data: str, lang: str | None, kind: str) -> str:
    return re.sub(r"[^\w.-]+", "-", "-".join(part for part in (data, lang, kind) if part))


def _write(trained: TrainedAdapter, folder: Path) -> None:
    from penstock.encoders.transform import save_transform
    from penstock.train.adapter_card import card_file

    file = adapter_file(folder, trained.card.name)
    folder.mkdir(parents=True, exist_ok=True)
    if trained.transform is None:
        file.unlink(missing_ok=True)
    else:
        save_transform(trained.transform, file)
    card_file(file).write_bytes(trained.card.to_json(trained.decision))


def _show(trained: TrainedAdapter, folder: Path, *, as_json: bool) -> None:
    from penstock.train.adapter_card import card_file
    from penstock.train.gate import judge

    card, decision = trained.card, trained.decision
    file = adapter_file(folder, card.name)
    if as_json:
        print_json({
            "name": card.name, "fingerprint": card.fingerprint, "pairs": card.pairs, "parameters": card.parameters,
            "seconds": card.seconds, "passes": decision.passes, "reasons": list(decision.reasons),
            "slices": [_plain(gain) for gain in decision.slices],
            "test": None if card.test is None else [_plain(gain) for gain in judge(card.test, lang=card.lang).slices],
        })  # fmt: skip
        return
    show_gains(decision.slices, f"{card.data}, split dev: {card.pairs} pairs, {card.kind}, {card.seconds} s")
    if card.test is not None:
        show_gains(judge(card.test, lang=card.lang).slices, f"{card.data}, split test")
    if card.note:
        say(card.note)
    if trained.transform is None:
        say(f"The encoder as it is was best; there is no adapter. The card: {card_file(file)}")
        return
    outcome = "passes" if decision.passes else f"is declined: {'; '.join(decision.reasons)}"
    say(f"Written: {file} and its card. The gate: it {outcome}.")


def _plain(gain: SliceGain) -> dict[str, object]:
    return {
        "name": gain.name, "questions": gain.questions, "base": gain.base, "adapted": gain.adapted,
        "gain": gain.gain.mean, "low": gain.gain.low, "high": gain.gain.high, "falls": gain.falls,
    }  # fmt: skip
