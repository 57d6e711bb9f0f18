"""`penstock models`: lists the models of the profile and whether their weights are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_table

if TYPE_CHECKING:
    from penstock.encoders.load import ModelRow


def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the models of the profile: their roles, vectors and precision, and whether the weights are on this machine.

    --profile before the command selects another profile, by name or by the path of a TOML file.
    """
    from dataclasses import asdict

    from penstock.encoders.load import describe_models
    from penstock.encoders.profiles import load_profile, profile_names
    from penstock.encoders.profiles.record import with_selected_profile

    settings = with_selected_profile(read_settings(context))
    profile = load_profile(settings.profile)
    rows = describe_models(profile, precision=settings.precision, device=settings.device)
    if as_json:
        described = [asdict(row) for row in rows]
        print_json(
            {
                "profile": profile.name,
                "notice": profile.notice,
                "substitutions": profile.substitutions,
                "profiles": profile_names(),
                "models": described,
            }
        )
        return
    print_table([_row(row) for row in rows], title=f"profile {profile.name} (of {', '.join(profile_names())})")
    for line in profile.substitutions:
        typer.echo(line)
    if profile.notice:
        typer.echo(profile.notice)


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
