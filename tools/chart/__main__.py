"""`python -m tools.chart`: writes the files that the chart derives; with --check, names those that are not in step."""

from __future__ import annotations

import argparse
import sys

from tools.chart.derived import derived_files, stale_copies


def main() -> None:
    """Writes or compares the derived files. Exits with 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file would change")
    check = parser.parse_args().check
    changed = [path for path, text in derived_files().items() if not path.is_file() or path.read_text("utf-8") != text]
    stale = stale_copies()
    if check:
        for path in [*changed, *stale]:
            print(f"{path} is not in step: run python -m tools.chart")
        sys.exit(1 if changed or stale else 0)
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(derived_files()[path], "utf-8")
        print(f"written: {path}")
    for path in stale:
        path.unlink()
        print(f"removed: {path}")


if __name__ == "__main__":
    main()
