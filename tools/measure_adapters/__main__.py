"""Measures adapters and writes the page.

    python -m tools.measure_adapters [--sets FOLDER] [--vectors FOLDER] [--seeds N] [--page]

Sets and vectors are those of `tools.measure_retrieval`. `--page` writes the page from the committed result and measures
nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from penstock.config import load_settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.evaluate.environment import describe_commit, describe_machine
from penstock.evaluate.vectors import VectorFiles
from penstock.query.adapters import encoder_text
from tools.measure_adapters.matrix import (
    MethodRow,
    as_rows,
    measure_gate,
    measure_languages,
    measure_methods,
    read_data,
)
from tools.measure_adapters.page import PAGE, RESULTS, write_page
from tools.measure_adapters.suggestions import measure_suggestions

PROFILE = "reference"
GATES = (("ja", False), ("ru", False), ("en", False), ("ja", True))


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    folder = load_settings().data_dir / "evaluation"
    parser = argparse.ArgumentParser(prog="tools.measure_adapters", description="Measure adapters, write the page.")
    parser.add_argument("--sets", type=Path, default=folder / "sets")
    parser.add_argument("--vectors", type=Path, default=folder / "vectors")
    parser.add_argument("--seeds", type=int, default=2, help="draws of pairs for each language")
    parser.add_argument("--method-seeds", type=int, default=1, help="draws of pairs for each method")
    parser.add_argument("--sets-of-images", default="clipart", help="comma-separated")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args(argv)
    if not arguments.page:
        images = [name for name in arguments.sets_of_images.split(",") if name]
        _measure(arguments.sets, arguments.vectors, range(arguments.seeds), range(arguments.method_seeds), images)
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"Written: {PAGE}")
    return 0


def _measure(sets: Path, vectors: Path, seeds: range, method_seeds: range, images: Sequence[str]) -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    profile = load_profile(PROFILE)
    stored = VectorFiles(vectors, profile)
    debian = read_data(sets / "debian", stored)
    gate = [measure_gate(debian, lang, shuffle=shuffle) for lang, shuffle in GATES]
    print("gate", flush=True)
    rows: list[MethodRow] = measure_languages(debian, seeds)
    print("languages", flush=True)
    rows += measure_methods(debian, "ja", "ja", method_seeds)
    print("methods, ja", flush=True)
    for name in images:
        if (sets / name).is_dir():
            rows += measure_methods(read_data(sets / name, stored), None, name, method_seeds)
            print(f"methods, {name}", flush=True)
    suggestions = [measure_suggestions(sets / name, stored) for name in ("wordnet", "mixed") if (sets / name).is_dir()]
    print("suggestions", flush=True)
    about = {
        "commit": describe_commit(),
        "machine": describe_machine(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "draws": f"{len(seeds)} for each language, {len(method_seeds)} for each method",
        "encoder": encoder_text(profile_fingerprints(profile)["passage.text"]),
    }
    document = {"about": about, "gate": as_rows(gate), "rows": as_rows(rows), "suggestions": as_rows(suggestions)}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
