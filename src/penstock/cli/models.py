"""`penstock models`: lists the models of the profile and where their weights are, fetches them, and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_line, print_table

if TYPE_CHECKING:
    from penstock.cli.model_check import ModelCheck
    from penstock.config import Settings
    from penstock.encoders.load import ModelRow
    from penstock.encoders.profiles import Profile

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the models of the profile: their roles, vectors and precision, and whether the weights are on this machine.

    --profile before the command selects another profile, by name or by the path of a TOML file. `check` loads them.
    """
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from penstock.encoders.load import describe_models
    from penstock.encoders.profiles import profile_names

    settings, profile = _selected(context)
    rows = describe_models(profile, precision=settings.precision, device=settings.device)
    if as_json:
        print_json({**_header(profile), "profiles": profile_names(), "models": [asdict(row) for row in rows]})
        return
    print_table([_row(row) for row in rows], title=f"profile {profile.name} (of {', '.join(profile_names())})")
    _print_notices(profile)


@app.command("check")
def check(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Load and run each model of the profile, and show whether it works here and how fast.

    Weights of the hub are fetched if they are not there yet. --profile selects another profile, as for `penstock
    models`.

    Exits with 1 if a model does not work.
    """
    from dataclasses import asdict

    from penstock.cli.model_check import check_models

    settings, profile = _selected(context)
    results = list(check_models(profile, settings))
    works = all(result.works for result in results)
    if as_json:
        print_json({**_header(profile), "works": works, "models": [asdict(result) for result in results]})
    else:
        print_table([_check_row(result) for result in results], title=f"profile {profile.name}")
        for result in results:
            if not result.works:
                print_line(f"{result.role}: {result.detail}")
        _print_notices(profile)
    raise typer.Exit(0 if works else 1)


@app.command("fetch")
def fetch(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Fetch the weights of the profile that are not on this machine. Loads no model; does nothing where all are there.

    For an image, an init container or a volume: planes that find all weights start with HF_HUB_OFFLINE=1.
    """
    from dataclasses import asdict

    from penstock.encoders.fetch import fetch_weights

    _, profile = _selected(context)
    files = [asdict(file) for file in fetch_weights(profile)]
    if as_json:
        print_json({**_header(profile), "files": files})
        return
    for file in files:
        print_line(f"{file['model']}: {file['path']} ({file['size_bytes'] / 1e6:.0f} MB)")


def _selected(context: typer.Context) -> tuple[Settings, Profile]:
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.profiles.record import with_selected_profile

    settings = with_selected_profile(read_settings(context))
    return settings, load_profile(settings.profile)


def _header(profile: Profile) -> Mapping[str, object]:
    return {"profile": profile.name, "notice": profile.notice, "substitutions": profile.substitutions}


def _print_notices(profile: Profile) -> None:
    for line in profile.substitutions:
        print_line(line)
    if profile.notice:
        print_line(profile.notice)


def _row(model: ModelRow) -> Mapping[str, object]:
    size = f" ({model.size_bytes / 1e6:.0f} MB)" if model.size_bytes else ""
    return {
        "role": model.role,
        "model": model.model,
        "space": model.space.id if model.space else "",
        "dims": model.space.dim if model.space else "",
        "precision": model.precision,
        "weights": model.source,
        "on this machine": f"yes{size}" if model.present else "no, downloaded on first use",
    }


def _check_row(result: ModelCheck) -> Mapping[str, object]:
    return {
        "role": result.role,
        "model": result.model,
        "works": "yes" if result.works else "no",
        "speed": "" if result.rate is None else f"{result.rate:.3g} {result.unit}",
        "loaded in": "" if result.load_s is None else f"{result.load_s:.1f} s",
        "result": result.detail if result.works else "see below",
    }
