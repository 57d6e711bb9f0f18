"""`penstock models`: what the profile's encoders are, and whether they are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.common import JsonFlag, print_json, print_table, read_settings

if TYPE_CHECKING:
    from penstock.encoders.load import ModelRow


def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the models of the profile: what each is for, its vectors, and whether it is on this machine."""

    from penstock.encoders.load import describe_models
    from penstock.encoders.profiles import load_profile, profile_names

    settings = read_settings(context)
    profile = load_profile(settings.profile)
    described = describe_models(profile, precision=settings.precision, device=settings.device)
    if as_json:
        print_json(
            {"profile": profile.name, "notice": profile.notice, "profiles": profile_names(), "models": described}
        )
        return
    print_table([_row(one) for one in described], title=f"profile {profile.name} (of {', '.join(profile_names())})")
    if profile.notice:
        typer.echo(profile.notice)


def _row(model: ModelRow) -> dict[str, Any]:
    size = f" ({model.size_bytes / 1e6:.0f} MB)" if model.size_bytes else ""
    return {
        "role": model.role,
        "model": model.model,
        "space": model.space.id if model.space else "",
        "dims": model.space.dim if model.space else "",
        "precision": model.precision,
        "weights": model.source,
        "here": f"yes{size}" if model.present else "no, fetched when first used",
    }
