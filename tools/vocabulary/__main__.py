"""The command line of the vocabulary check."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.vocabulary.check import check, count_table
from tools.vocabulary.sources import ROOT


def main() -> int:
    """Prints the findings and returns the exit code: 0 for none, 1 for some, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.vocabulary", description="Check names, docstrings and words."
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files or folders to report on; default: all")
    parser.add_argument("--count", action="store_true", help="show the number of findings by rule and package")
    options = parser.parse_args()
    paths = [Path(path).resolve() for path in options.paths]
    for path in paths:
        if not path.exists() or not path.is_relative_to(ROOT):
            parser.error(f"{path} is not in {ROOT}")
    findings = check(ROOT, [str(path.relative_to(ROOT)) for path in paths])
    if options.count:
        print(count_table(findings))
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
        print(f"{len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
