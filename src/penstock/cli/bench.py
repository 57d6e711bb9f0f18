"""`penstock bench`: runs the benchmarks of a checkout of the repository. The package does not contain them."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

from penstock.errors import ConfigError

_CHECKOUT = Path(__file__).parents[3]


def add_bench(app: typer.Typer) -> None:
    """Adds the command `bench`: the benchmarks in a checkout, otherwise a command that reports where they are."""
    benchmarks = _load()
    if benchmarks is not None:
        app.add_typer(benchmarks, name="bench")
    else:
        app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_unavailable)


def _load() -> typer.Typer | None:
    """Returns the command of the checkout; None without one, or if its root is not on the path."""
    if not (_CHECKOUT / "benchmarks" / "cli.py").is_file():
        return None
    try:
        bench: typer.Typer = importlib.import_module("benchmarks.cli").app
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("benchmarks"):  # a dependency of the benchmarks: say so
            raise
        return None  # no editable install of this checkout, or another package of that name
    return bench


def _unavailable() -> None:
    """Measure ingest, queries and encoders. Needs a checkout of the repository."""
    raise ConfigError(
        "`penstock bench` needs an editable install of a checkout (`make setup`): the package has no benchmarks"
    )
