"""`penstock bench`: the benchmarks of the repository. They run from a checkout and are not part of the package."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

from penstock.errors import ConfigError

_CHECKOUT = Path(__file__).parents[3]


def add_bench(app: typer.Typer) -> None:
    """Adds the command: the benchmarks in a checkout, elsewhere one that says where to find them."""
    if (_CHECKOUT / "benchmarks" / "cli.py").is_file():
        app.add_typer(importlib.import_module("benchmarks.cli").app, name="bench")
    else:
        app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_unavailable)


def _unavailable() -> None:
    """Measure ingest, queries and encoders; in a checkout of the repository only."""
    raise ConfigError("`penstock bench` needs a checkout of the repository: the package has no benchmarks")
