"""Node's packages of Grafana, installed in a folder of their own, and the programs among them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("page")
BUILD: Final = PAGE.parents[1] / "build/page"  # where 600 MB of packages are out of the way


class MissingProgramError(RuntimeError):
    """A program that is needed is not on the PATH."""


def program(*names: str) -> str:
    """Returns the path of the first of some programs.

    Errors:
        MissingProgramError: there is none of them.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingProgramError(f"there is no {names[0]} on the PATH")


def sources_changed() -> float:
    """Returns when a source of the page was changed last, in s since 1970."""
    return max(path.stat().st_mtime for path in PAGE.rglob("*") if path.is_file())


def run_in_page(name: str, *options: str) -> str:
    """Returns what a program of the page's packages printed; installs the packages first where they are missing.

    Errors:
        MissingProgramError: there is no npm.
        subprocess.CalledProcessError: the program failed; its output has the reason.
    """
    npm = program("npm")
    shutil.copytree(PAGE, BUILD, dirs_exist_ok=True)
    if not (BUILD / "node_modules/.bin" / name).exists():
        quiet = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run([npm, "install", *quiet], cwd=BUILD, check=True)
    return subprocess.run(
        [npm, "exec", "--", name, *options], cwd=BUILD, check=True, text=True, capture_output=True
    ).stdout
