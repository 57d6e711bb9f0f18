"""Brings patches up to date with the present sources, as far as git can merge them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.mutations.catalog import ROOT, Mutation
from tests.mutations.runner import copy_sources, git

_WORD = re.compile(r"\b[A-Za-z_]\w*")
_IDENTITY = ("-c", "user.name=refresh", "-c", "user.email=refresh@localhost")
_DIFF = ("diff", "--full-index", "HEAD")
_APPLY = ("-c", "merge.conflictStyle=diff3", "apply", "--whitespace=nowarn", "--recount")


class StaleError(Exception):
    """Says that a person has to write a patch again, and shows its hunks beside the present sources."""


@contextmanager
def scratch_clone(root: Path = ROOT) -> Iterator[Path]:
    """Yields a temporary clone whose last commit holds the sources as they are in the working tree.

    Raises:
        RuntimeError: git could not clone the repository.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-refresh-") as name:
        clone = Path(name)
        cloned = git(clone, "clone", "--quiet", "--shared", root.as_posix(), ".")
        if cloned.returncode != 0:
            raise RuntimeError(cloned.stderr)
        shutil.rmtree(clone / "src")
        copy_sources(root, clone)
        git(clone, "add", "--all", "src")
        git(clone, *_IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "Working tree")
        yield clone


def refreshed(mutation: Mutation, clone: Path, moves: Mapping[str, str], renames: Mapping[str, str]) -> Mutation:
    """Returns the mutation with a diff against the present sources.

    Args:
        mutation: the one whose patch may be out of date.
        clone: from `scratch_clone`.
        moves: new paths of source files, where git's rename detection should not decide.
        renames: new names in the code, for patches that do not merge without them.

    Raises:
        StaleError: nothing of this gives a patch that changes the file and uses only names that are still there.
    """
    path = moves.get(mutation.file) or _present_path(clone, mutation.file)
    if not (clone / path).is_file():
        raise StaleError(f"there is no {path}")
    present = (clone / path).read_text(encoding="utf-8")
    header, mark, hunks = mutation.diff.partition("\n@@")
    header = header.replace(f"/{mutation.file}", f"/{path}") + "\n"
    hunks = mark.lstrip() + hunks
    renamed = _WORD.sub(lambda word: renames.get(word[0], word[0]), hunks)
    problem = header + hunks
    for attempt in (
        partial(_apply, clone, header + hunks),
        partial(_apply, clone, header + hunks, "--3way"),
        partial(_replace_lines, clone / path, hunks),
        partial(_apply, clone, header + renamed),
        partial(_replace_lines, clone / path, renamed),
    ):
        git(clone, "reset", "--quiet", "--hard")
        if not attempt():
            problem = git(clone, "diff", "--", path).stdout or problem
            continue
        fresh = git(clone, *_DIFF, "--", path).stdout
        if lost := _lost_names(clone, mutation.diff, fresh, present):
            problem = f"it uses {', '.join(lost)}, which {path} no longer has\n{fresh}"
        elif fresh:
            return replace(mutation, diff=fresh)
        else:
            problem = f"the sources have this change already\n{header}{hunks}"
    raise StaleError(problem)


def _apply(clone: Path, diff: str, *options: str) -> bool:
    """Applies a diff and returns whether it fits."""
    return git(clone, *_APPLY, *options, "-", stdin=diff).returncode == 0


def _lost_names(clone: Path, recorded: str, fresh: str, present: str) -> list[str]:
    """Lists names in the added lines that the file had when the patch was made, and no longer has.

    With such a name the patch would break any test, whatever guarantee the test is for.
    """
    blob = re.search(r"^index ([0-9a-f]+)\.\.", recorded, re.MULTILINE)
    former = git(clone, "cat-file", "blob", blob[1]).stdout if blob else ""
    added = "".join(re.findall(r"^\+(?!\+\+ ).*\n", fresh, re.MULTILINE))
    return sorted((set(_WORD.findall(added)) & set(_WORD.findall(former))) - set(_WORD.findall(present)))


def _replace_lines(file: Path, hunks: str) -> bool:
    """Changes the lines of the hunks without regard to their context, and returns whether each is there exactly once.

    A merge takes a change in the next line for a conflict; the lines themselves may be the same.
    """
    text = "\n" + file.read_text(encoding="utf-8")
    for hunk in re.split(r"^@@.*\n", hunks, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        changed = [number for number, line in enumerate(lines) if line[0] in "+-"]
        core = lines[changed[0] : changed[-1] + 1]
        old = "".join(line[1:] for line in core if line[0] != "+")
        new = "".join(line[1:] for line in core if line[0] != "-")
        if not old or text.count(f"\n{old}") != 1:
            return False
        text = text.replace(f"\n{old}", f"\n{new}")
    file.write_text(text[1:], encoding="utf-8")
    return True


def _present_path(clone: Path, file: str) -> str:
    """Follows the moves of a file through the history.

    Raises:
        StaleError: the file was removed, and git sees no new place of it.
    """
    while not (clone / file).exists():
        removal = git(clone, "log", "-1", "--format=%H", "--diff-filter=D", "--no-renames", "--", file).stdout.strip()
        listing = git(clone, "show", "--format=", "--name-status", "-M40%", "--diff-filter=R", removal or "HEAD").stdout
        renames = dict(line.split("\t")[1:] for line in listing.splitlines())
        if file not in renames:
            raise StaleError(f"{file} is gone, and no file looks like it: name its new place with --path {file}=NEW")
        file = renames[file]
    return file
