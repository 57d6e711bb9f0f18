"""Breaks the guarantees of the ingest plane one at a time, and checks that a test notices.

    python -m tests.mutations [--jobs 2] [--write docs/mutations.md] [--new] [NAME…]
    python -m tests.mutations --refresh [--path OLD=NEW]… [--rename OLD=NEW]… [NAME…]

A mutation is a patch of one source file in `tests/mutations/patches`, applied to a copy of the sources. Its header
names the tests that should notice; they run against the copy, and so do the property tests of the lane. All of them
must pass without it. It is an error if a patch does not apply. `--write` replaces the lines of the mutations that were
tried and keeps those of others; `--new` tries only mutations that the page has no line of.

`--refresh` rewrites the patches against the present sources. It follows moved files and merges changes around a patch,
for which the version of the source file that the patch names has to be in the history: commit both together. It lists
the patches that it cannot merge, mostly because a name in their own lines is new: `--rename` gives new names. To write
one again, edit its hunk and run `--refresh` (line numbers and counts need not be exact), or make the change in the
source file and paste `git diff --full-index` below the header.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.catalog import PACKAGE, PATCHES, ROOT, Mutation, load, save
from tests.mutations.refresh import StaleError, refreshed, scratch_clone
from tests.mutations.runner import PROPERTIES, Caught, failing, mutated, try_out

_HEAD = """# Guarantees, broken on purpose

Written by `make mutations` (`tests/mutations`). Each line is a small patch of the code that breaks one guarantee
(`tests/mutations/patches`). The named test has to notice it; these tests need no servers and take seconds. The
property tests (`tests/ingest/lane/test_properties.py`) drive lanes, pipeline, writers and dead letters through random
faults, and notice only effects that are visible from outside. Where the last column says no, a second safeguard still
holds (behind the fence, for example, the order by asset row), so each guarantee has a test of its own.

"""


PAGE = ROOT / "docs" / "mutations.md"
_ROW = re.compile(r"^\| (?P<name>[^|]+) \| `[^`|]+` \| (?P<noticed>[^|]+ \| (?:yes|no)) \|$", re.MULTILINE)


def noticed(page: str) -> dict[str, str]:
    """Returns the last two columns of a page's table, by the name of the mutation."""
    return {row["name"]: row["noticed"] for row in _ROW.finditer(page)}


def row(caught: Caught) -> str:
    """Returns the last two columns of a result."""
    by_test = f"`{caught.by_test}`" if caught.by_test else "**nothing**"
    return f"{by_test} | {'yes' if caught.by_properties else 'no'}"


def table(mutations: Sequence[Mutation], rows: Mapping[str, str]) -> str:
    """Returns the results of these mutations as a Markdown table; one without a result has no line."""
    lines = ["| broken on purpose | in | noticed by | and by the property tests |", "|---|---|---|---|"]
    lines += [
        f"| {mutation.name} | `{mutation.file.removeprefix(PACKAGE)}` | {rows[mutation.name]} |"
        for mutation in mutations if mutation.name in rows
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def run(mutations: Sequence[Mutation], jobs: int, report: Path | None) -> int:
    """Tries the mutations and returns the exit status: 0 if a test notices every one of them."""
    everything = sorted({PROPERTIES, *(test for mutation in mutations for test in mutation.tests)})
    with mutated(None) as source:
        if unmutated := failing(source, everything):
            sys.stderr.write(f"{unmutated} fails without any mutation\n")
            return 1
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(try_out, mutations))
    rows = {caught.mutation.name: row(caught) for caught in results}
    print(table(mutations, rows), end="")
    if report is not None:
        known = noticed(report.read_text(encoding="utf-8")) if report.exists() else {}
        report.write_text(_HEAD + table(load(), known | rows), encoding="utf-8")
    return 0 if all(caught.by_test for caught in results) else 1


def refresh(
    mutations: Sequence[Mutation],
    moves: Mapping[str, str],
    renames: Mapping[str, str],
    root: Path = ROOT,
    patches: Path = PATCHES,
) -> int:
    """Rewrites the patches that are out of date and returns the exit status: 1 if some need a person."""
    stale = 0
    with scratch_clone(root) as clone:
        for mutation in mutations:
            try:
                fresh = refreshed(mutation, clone, moves, renames)
            except StaleError as error:
                stale += 1
                print(f"WRITE AGAIN {mutation.slug}.patch\n{error}")
                continue
            if fresh != mutation:
                save(fresh, patches)
                print(f"refreshed {mutation.slug}.patch")
    print(f"{len(mutations) - stale} of {len(mutations)} patches are up to date")
    return 1 if stale else 0


def _pair(text: str) -> tuple[str, str]:
    """Splits OLD=NEW.

    Raises:
        ValueError: there is no `=`.
    """
    old, new = text.split("=")
    return old, new


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only mutations whose name or slug contains one of these")
    parser.add_argument("--write", type=Path, help="write the table there")
    parser.add_argument("--new", action="store_true", help="only mutations of which docs/mutations.md has no line")
    parser.add_argument("--jobs", type=int, default=2, help="how many mutations run concurrently")
    parser.add_argument("--refresh", action="store_true", help="rewrite the patches against the present sources")
    for option, text in (
        ("--path", "where a source file is now, if git cannot tell"),
        ("--rename", "a new name in code"),
    ):
        parser.add_argument(
            option, action="append", default=[], metavar="OLD=NEW", type=_pair, help=f"with --refresh: {text}"
        )
    arguments = parser.parse_args()
    chosen = [
        mutation for mutation in load()
        if not arguments.names or any(name in mutation.name or name in mutation.slug for name in arguments.names)
    ]  # fmt: skip
    if arguments.new:
        known = noticed(PAGE.read_text(encoding="utf-8"))
        chosen = [mutation for mutation in chosen if mutation.name not in known]
        if not chosen:
            print("docs/mutations.md has a line of each")
            return 0
    if not chosen:
        parser.error(f"no mutation is called {' or '.join(arguments.names)}")
    if arguments.refresh:
        return refresh(chosen, dict(arguments.path), dict(arguments.rename))
    return run(chosen, arguments.jobs, arguments.write)


if __name__ == "__main__":
    sys.exit(main())
