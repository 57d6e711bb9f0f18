"""Describes where a result comes from: the commit of the checkout, the machine, and the command."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from penstock.cpus import usable_cpus

_CHECKOUT = Path(__file__).parents[3]


def describe_commit(folder: Path = _CHECKOUT) -> str:
    """Returns the commit of a checkout, with `+` if its sources differ; an empty text without git or checkout."""
    commit = _git(folder, "rev-parse", "--short=10", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", "src", "tools")
    return commit + ("+" if commit and changed else "")


def describe_machine() -> str:
    """Returns processor, cores, memory and Python of this machine."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{platform.machine()}, {usable_cpus()} cores, {memory_gb:.0f} GB, Python {platform.python_version()}"


def describe_command(arguments: Sequence[str]) -> str:
    """Returns a command line that a shell reads, with folders reduced to their names: others have them elsewhere."""
    shown = [Path(argument).name if "/" in argument else argument for argument in arguments]
    return " ".join(["penstock", *(shlex.quote(argument) for argument in shown)])


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
