"""Applies a mutation to a copy of the sources and runs tests against the copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.catalog import ROOT, Mutation

PROPERTIES = "tests/ingest/lane/test_properties.py"
_FILE_TIMEOUT_S = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Caught:
    """Reports which tests notice a mutation: the first one made for it (empty: none), and the property tests."""

    mutation: Mutation
    by_test: str
    by_properties: bool


def git(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs git in a folder, independent of repositories around it, of the environment and of the user's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CEILING_DIRECTORIES": os.fspath(folder.resolve().parent), "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder, env=environment, input=stdin, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


def copy_sources(root: Path, target: Path) -> None:
    """Copies the sources as they are in the working tree."""
    shutil.copytree(root / "src", target / "src", ignore=shutil.ignore_patterns("__pycache__"))


@contextmanager
def mutated(mutation: Mutation | None) -> Iterator[Path]:
    """Yields a copy of the sources with the mutation applied.

    Raises:
        ValueError: the patch does not apply.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-mutation-") as name:
        folder = Path(name)
        copy_sources(ROOT, folder)
        if mutation is not None:
            applied = git(folder, "apply", "--whitespace=nowarn", "-", stdin=mutation.diff)
            if applied.returncode != 0:
                hint = "`python -m tests.mutations --refresh` brings it up to date"
                raise ValueError(f"{mutation.name}: the patch does not apply; {hint}\n{applied.stderr}")
        yield folder / "src"


def failing(source: Path, tests: Sequence[str]) -> str:
    """Returns the first of these tests that fails on the sources; empty if none does.

    Raises:
        RuntimeError: pytest could not run them.
    """
    environment = {**os.environ, "PYTHONPATH": os.fspath(source), "HYPOTHESIS_PROFILE": "mutation"}
    options = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not services", "--timeout", "120")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_FILE_TIMEOUT_S * len(tests), check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = _FAILED.search(done.stdout)
    return "" if done.returncode == 0 else failed.group(1) if failed else "?"


def try_out(mutation: Mutation) -> Caught:
    """Runs the tests of a mutation and the property tests against it."""
    with mutated(mutation) as source:
        by_test = failing(source, mutation.tests)
        caught = Caught(mutation, by_test.rpartition("::")[2], bool(failing(source, [PROPERTIES])))
    sys.stderr.write(f"{mutation.name}: {by_test or 'NOT NOTICED'}{', properties' * caught.by_properties}\n")
    return caught
