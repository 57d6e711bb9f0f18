"""`penstock bench`: runs the benchmarks of a checkout of the repository. The package does not contain them."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

from penstock.errors import ConfigError

_CHECKOUT = Path(__file__).parents[3]


def add_bench(app: typer.Typer) -> None:
    """Adds the command `bench`: the benchmarks in a checkout, otherwise a command that reports where they are."""
    if (_CHECKOUT / "benchmarks" / "cli.py").is_file():
        app.add_typer(importlib.import_module("benchmarks.cli").app, name="bench")
    else:
        app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_unavailable)


def _unavailable() -> None:
    """Measure ingest, queries and encoders. Needs a checkout of the repository."""
    raise ConfigError(
        "`penstock bench` needs a checkout of the repository: the package does not contain the benchmarks"
    )
