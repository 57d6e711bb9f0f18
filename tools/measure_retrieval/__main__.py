"""Measures retrieval and writes the page.

    python -m tools.measure_retrieval [--sets FOLDER] [--vectors FOLDER] [--profiles NAME,…] [--only SET,…]
        [--experiments LETTER,…] [--seeds N] [--page]

Sets that are missing are built from packages (`tools.evaluation_sets`). Vectors are kept, so that a second run encodes
nothing. `--page` writes the page from the committed results and measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock.config import load_settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import Profile, load_profile
from penstock.evaluate.result import as_read, to_json
from penstock.evaluate.vectors import VectorFiles
from penstock.query.calibrations import SHIPPED, find_calibration
from penstock.query.fusion.calibration import Calibration
from tools.evaluation_sets.__main__ import BUILDERS
from tools.evaluation_sets.packages import MissingPackageError, Packages
from tools.measure_retrieval.blocks import FUSION_SETS, SETS, Subject, measure_fusions, measure_set
from tools.measure_retrieval.experiment_blocks import EXPERIMENTS, run_experiment
from tools.measure_retrieval.experiment_tables import FUSION_SEEDS, Sources
from tools.measure_retrieval.page import PAGE, RESULTS, write_page

PROFILES = "reference,shelf"


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    folder = load_settings().data_dir / "evaluation"
    parser = argparse.ArgumentParser(prog="tools.measure_retrieval", description="Measure retrieval, write the page.")
    parser.add_argument("--sets", type=Path, default=folder / "sets")
    parser.add_argument("--vectors", type=Path, default=folder / "vectors")
    parser.add_argument("--profiles", default=PROFILES)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--experiments", default=None, help="blocks alone, such as G,I; default: sets and all blocks")
    parser.add_argument("--seeds", type=int, default=len(FUSION_SEEDS), help="trainings of each learned fusion")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args(argv)
    chosen = [name for name in SETS if name in arguments.only.split(",")]
    profiles = arguments.profiles.split(",")
    if not arguments.page and arguments.experiments is None:
        names = [name for name in chosen if _is_built(name, arguments.sets)]
        for profile_name in profiles:
            _measure(profile_name, names, arguments.sets, arguments.vectors)
    if not arguments.page:
        letters = list(EXPERIMENTS) if arguments.experiments is None else arguments.experiments.split(",")
        _experiment(letters, Sources(arguments.sets, arguments.vectors, profiles, range(arguments.seeds)))
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"Written: {PAGE}")
    return 0


def _is_built(name: str, sets: Path) -> bool:
    """Builds a set if it is missing, and returns whether it is there."""
    if (sets / name / "CARD.json").is_file():
        return True
    try:
        BUILDERS[name](Packages(sets / "packages"), sets / name)
    except MissingPackageError as exc:
        print(f"{name}: left out: {exc}")
        return False
    return True


def _measure(profile_name: str, names: list[str], sets: Path, vectors: Path) -> None:
    profile = load_profile(profile_name)
    if profile.substitutions:  # other models than the profile means: their figures are not its figures
        print("\n".join([f"{profile_name}: left out:", *profile.substitutions]))
        return
    subject = Subject(profile, VectorFiles(vectors, profile), _shipped_calibration(profile))
    for name in names:
        result = as_read(measure_set(subject, sets / name))
        (RESULTS / f"retrieval-{profile_name}-{name}.json").write_text(to_json(result), encoding="utf-8")
        print(f"{profile_name}: {name}", flush=True)
        if name in FUSION_SETS:
            texts = [to_json(as_read(of_fusion)).strip() for of_fusion in measure_fusions(subject, sets / name)]
            file = RESULTS / f"fusions-{profile_name}-{name}.json"
            file.write_text("[" + ",\n".join(texts) + "]\n", encoding="utf-8")


def _experiment(letters: Sequence[str], sources: Sources) -> None:
    for letter in letters:
        experiment = run_experiment(letter, sources, command=f"make measure ARGS='--experiments {letter}'")
        if experiment is None:
            print(f"{letter}: left out: it needs sets or a profile that are not here")
        else:
            print(f"{letter}: {experiment.seconds:.0f} s: {experiment.write(RESULTS)}", flush=True)


def _shipped_calibration(profile: Profile) -> Calibration | None:
    """Returns the calibration that comes with a profile; None if there is none for its present encoders."""
    file = SHIPPED / f"{profile.name}.json"
    if not file.is_file():
        return None
    return find_calibration(file, SHIPPED, profile, profile_fingerprints(profile), "FLAT")


if __name__ == "__main__":
    sys.exit(main())
