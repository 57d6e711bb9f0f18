"""Installs each package of some lock files that is available; a missing one costs one line, and what needs it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tools.shelf.lock import LockedPackage, read_lock

_CONCURRENT = 3
_TIMEOUT_S = 100.0  # for one package: set-up as a whole should take no more than four minutes
# A server that does not answer is given up soon: nothing depends on it.
_ENVIRONMENT = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}


def main() -> None:
    """Installs the packages, and prints a line for each that cannot be installed. None of them fails the call."""
    parser = argparse.ArgumentParser(prog="python -m tools.shelf", description=__doc__)
    parser.add_argument("locks", type=Path, nargs="+", help="requirements-shelf.lock and others")
    parser.add_argument("uv", type=Path, help="the installer")
    parser.add_argument("--python", type=Path, default=sys.executable, help="into whose environment; default: this one")
    options = parser.parse_args()
    listed = subprocess.run(
        [options.uv, "pip", "freeze", "--quiet", "--python", options.python], capture_output=True, text=True, check=True
    )
    installed = frozenset(listed.stdout.split())
    locked = [package for lock in options.locks for package in read_lock(lock.read_text(encoding="utf-8"))]
    packages = [package for package in locked if f"{package.name}=={package.version}" not in installed]
    with ThreadPoolExecutor(_CONCURRENT) as pool:
        failures = list(pool.map(partial(_install, options.uv, options.python), packages))
    for package, failure in zip(packages, failures, strict=True):
        if failure is not None:
            print(f"shelf: {package.name} {package.version} is not installed: {failure}")
    # in a process of its own, which sees what was installed
    print(
        subprocess.run([options.python, "-c", _SUBSTITUTIONS], capture_output=True, text=True, check=False).stdout,
        end="",
    )


_SUBSTITUTIONS = """\
from penstock.encoders.profiles import load_profile
print(*load_profile("shelf").substitutions, sep="\\n", end="")
"""


def _install(uv: Path, python: Path, package: LockedPackage) -> str | None:
    """Installs one package, without its dependencies and without running code of it. Returns why that failed."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(package.requirement, encoding="utf-8")
        command: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python]
        # Wheels only: building from source would run the package's code.
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirements", requirements]
        return _failure(command)


def _failure(command: Sequence[str | Path]) -> str | None:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, env=_ENVIRONMENT | os.environ
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_TIMEOUT_S:.0f} s"
    if result.returncode == 0:
        return None
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("cause: ") if lines else f"exit code {result.returncode}"


if __name__ == "__main__":
    main()
