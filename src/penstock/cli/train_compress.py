"""`penstock train compress`: fits a map to smaller vectors, and shows what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_table, say, stage_progress

if TYPE_CHECKING:
    from penstock.train.compression.fit import CompressionCard
    from penstock.train.compression.measure import CompressionRow

DRAWS = 10_000

_SetOption = Annotated[
    Path, typer.Option("--set", metavar="SET", help="Folder of an evaluation set with splits (docs/evaluate.md).")
]
_MethodOption = Annotated[
    str, typer.Option(metavar="NAME", help="pca, autoencoder or matryoshka. A bare prefix is refused.")
]
_LangOption = Annotated[
    str | None, typer.Option(metavar="CODE", help="Fit and judge by questions of this language. Default: all.")
]
_TableOption = Annotated[
    bool, typer.Option("--table", help="Measure every method, dimension and code instead; write no transform.")
]
_ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as the global option --profile.")
]
_OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the transform here. Default: in the data folder.")
]
_VectorsOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of stored vectors. Default: in the data folder.")
]


def compress(
    context: typer.Context,
    *,
    folder: _SetOption,
    dim: Annotated[int, typer.Option(metavar="N", min=8, help="Dimensions to keep.")] = 128,
    method: _MethodOption = "pca",
    modality: Annotated[str, typer.Option(metavar="NAME", help="Vectors of text or of image.")] = "text",
    lang: _LangOption = None,
    table: _TableOption = False,
    profile: _ProfileOption = None,
    out: _OutOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the training and of the intervals.")] = 0,
    vectors: _VectorsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit a map to vectors of fewer dimensions, and show its cost in nDCG@10 beside its bytes.

    Fits to the splits train and dev of the set, judges by test, and writes the map with a card beside it. A collection
    of another dimension is another version of the index: `penstock reindex start --transform FILE` fills it.

    Fewer bits need no map: `store.index.type` chooses an index of one byte a dimension, and `penstock tune` shows what
    it finds.
    """
    from penstock.encoders.load import profile_fingerprints
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.encoders.transform import save_transform
    from penstock.evaluate.datasets import read_set
    from penstock.evaluate.vectors import VectorFiles
    from penstock.train.compression.fit import encoder_of, fit_compression, parse_choice
    from penstock.train.compression.measure import measure_compression, read_channel

    chosen, of_modality = parse_choice(method, modality)
    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = with_selected_profile(read_settings(context))
    models = load_profile(settings.profile)
    with stage_progress(quiet=as_json) as report:
        report("reading", 0, 1)
        stored = VectorFiles(
            vectors or settings.data_dir / "evaluation" / "vectors",
            models,
            precision=settings.precision,
            device=settings.device,
        )
        data = read_channel(read_set(folder), stored, modality=of_modality, lang=lang)
        report("reading", 1, 1)
        report("fitting", 0, 1)
        if table:
            rows = measure_compression(data, seed=seed, draws=DRAWS)
            _show(rows, as_json=as_json)
            return
        encoder = encoder_of(models, profile_fingerprints(models), of_modality)
        name = Path(models.name).stem
        transform, card = fit_compression(data, chosen, dim, profile=name, encoder=encoder, seed=seed, draws=DRAWS)
        report("fitting", 1, 1)
    file = out or settings.data_dir / "transforms" / f"{name}-{of_modality}-{chosen}-{dim}.safetensors"
    save_transform(transform, file)
    _report(card, file, as_json=as_json)


def _report(card: CompressionCard, file: Path, *, as_json: bool) -> None:
    """Writes the card beside the transform, and shows it."""
    document = {**card.to_json(), "file": str(file)}
    beside = file.with_suffix(".card.json")
    beside.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    if as_json:
        print_json(document)
    else:
        _show(card.rows, as_json=False)
    say(f"Written: {file} and {beside}. `penstock reindex start --transform {file}` fills an index with it.")


def _show(rows: Sequence[CompressionRow], *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table([
        {
            "vectors": row.method,
            "dimensions": row.dim,
            "values": row.code,
            "bytes": row.bytes,
            **{
                name: f"{100 * of.mean:.1f} [{100 * of.low:.1f}, {100 * of.high:.1f}]"
                for name, of in row.figures.items()
            },
            "Δ nDCG@10": f"{100 * row.difference.mean:+.2f} [{100 * row.difference.low:+.2f}, "
            f"{100 * row.difference.high:+.2f}]",
            "p (Holm)": f"{row.corrected_p:.4f}",
        }
        for row in rows
    ])  # fmt: skip
