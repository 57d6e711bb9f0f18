"""`penstock adapter`: puts adapters that the gate passes into use, takes them out again, and lists them."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, of_kept_index
from penstock.cli.render import print_json, print_table, say
from penstock.cli.train_adapter import adapter_file, show_gains
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.assets import AssetStore
    from penstock.config import Settings
    from penstock.encoders.transform import LayeredTransform
    from penstock.query.adapters import Promotion
    from penstock.train.adapter_card import AdapterCard
    from penstock.train.gate import GateDecision

app = typer.Typer(help="Put adapters of questions into use, or out of it.", no_args_is_help=True)

_NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `penstock train adapter` named it.")]


@app.callback()
def adapter() -> None:
    """Put adapters of questions into use, or out of it."""


@app.command()
def promote(
    context: typer.Context,
    name: _NameArgument,
    *,
    index_version: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Version of the index. Default: the one that is served.")
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Set of models, as --profile.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put an adapter of questions into use, if the gate passes it; else show the table, and exit with 1.

    The gate: the interval of its gain lies above 0 on the questions that it is for, and no slice falls. It decides by
    the figures in the card. Running query planes use the adapter two seconds later; no entry is indexed again.
    """
    from penstock.assembly import open_assets
    from penstock.encoders.profiles.record import with_selected_profile
    from penstock.query.adapters import put_card, put_transform, read_promotions, write_promotions
    from penstock.train.gate import judge

    if profile is not None:
        context.obj.overrides["profile"] = profile
    settings = of_kept_index(connected_settings(context))
    assets = open_assets(settings)
    version, of_version = _of_version(settings, assets, index_version)
    settings = with_selected_profile(of_version if profile is None else settings)
    card, transform = _read(settings, name)
    _check_encoder(settings, card)
    promotions = read_promotions(assets)
    promotion = _promotion(card, version)
    used = promotions.of_slot(promotion.slot)
    decision = judge(card.figures, lang=card.lang)
    if decision.passes and used is not None and used.fingerprint != card.fingerprint:
        decision = _compare(assets, card, used)
    if not decision.passes:
        record_command(settings, "adapter", "refused", target={"promote": name})
        _decline(card, decision, as_json=as_json)
        raise typer.Exit(1)
    put_transform(assets, transform)
    put_card(assets, card.fingerprint, card.to_json(decision))
    write_promotions(assets, promotions.promoted(promotion))
    record_command(settings, "adapter", "ok", target={"promote": name, "fingerprint": card.fingerprint})
    if as_json:
        print_json({"promoted": asdict(promotion), "slices": [asdict(gain) for gain in decision.slices]})
        return
    show_gains(decision.slices, f"{card.name}: {card.data}, split dev")
    say(f"Promoted: {card.name} for {_questions(promotion)}. Running query planes use it within seconds.")


@app.command()
def rollback(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Default: the one promoted last.")] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Take an adapter out of use; the one that was used before it, or none, is used again."""
    from penstock.assembly import open_assets
    from penstock.query.adapters import read_promotions, write_promotions

    settings = connected_settings(context)
    assets = open_assets(settings)
    promotions, removed = read_promotions(assets).rolled_back(name)
    write_promotions(assets, promotions)
    record_command(settings, "adapter", "ok", target={"rollback": removed.name, "fingerprint": removed.fingerprint})
    used = promotions.of_slot(removed.slot)
    if as_json:
        print_json({"removed": asdict(removed), "used": None if used is None else asdict(used)})
        return
    now = "the encoder as it is" if used is None else used.name
    say(f"Rolled back: {removed.name} for {_questions(removed)}. In use now: {now}.")


@app.command("list")
def list_(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """List the adapters that are in use or were, and those that were trained on this data folder."""
    from penstock.assembly import open_assets
    from penstock.query.adapters import read_promotions

    settings = connected_settings(context)
    promotions = read_promotions(open_assets(settings))
    used = {id(promotions.of_slot(promotion.slot)) for promotion in promotions.promotions}
    promoted = [_row(promotion, used=id(promotion) in used) for promotion in promotions.promotions]
    fingerprints = {promotion.fingerprint for promotion in promotions.promotions}
    trained = [row for row in _trained(settings.data_dir / "adapters") if row["fingerprint"] not in fingerprints]
    if as_json:
        print_json({"promotions": promoted, "trained": trained})
        return
    print_table([*promoted, *trained])
    if not promoted and not trained:
        say("There are no adapters: `penstock train adapter` makes them.")


def _read(settings: Settings, name: str) -> tuple[AdapterCard, LayeredTransform]:
    from penstock.encoders.transform import load_transform
    from penstock.errors import UsageError
    from penstock.train.adapter_card import card_file, parse_card

    file = adapter_file(settings.data_dir / "adapters", name)
    card_path = card_file(file)
    if not card_path.is_file():
        raise UsageError(f"there is no adapter {name} in {file.parent}; `penstock train adapter --name` makes it")
    card = parse_card(card_path.read_bytes(), str(card_path))
    if not card.fingerprint:
        raise UsageError(f"training {name} found nothing better than the encoder as it is: there is no adapter")
    if card.side == "both":
        raise UsageError(
            f"adapter {name} maps vectors of documents, too, which is a change of the model: fill a new version of the "
            f"index by `penstock reindex start --transform {file}`"
        )
    if card.side == "document":
        raise UsageError(
            f"adapter {name} maps vectors of documents alone, which shows what it gains and is not used: an index maps "
            "questions alike. Train it with --side both"
        )
    transform = load_transform(file)
    if transform.fingerprint != card.fingerprint:
        raise UsageError(f"{file} is not the adapter that its card describes; train it again")
    return card, transform


def _of_version(settings: Settings, assets: AssetStore, requested: int | None) -> tuple[int, Settings]:
    """Returns a version of the index that is held, by default the served one, and its settings.

    Raises:
        UsageError: there is no such version, so that no plane would ever use the adapter.
    """
    from penstock.errors import UsageError
    from penstock.versions import Phase, read_reindex, version_settings

    under_way = read_reindex(assets)
    held, served = {settings.store.version}, settings.store.version
    if under_way is not None:
        held = {under_way.from_version, under_way.to_version} - {under_way.dropping}
        is_switched = under_way.phase is Phase.SWITCHED or under_way.dropping == under_way.from_version
        served = under_way.to_version if is_switched else under_way.from_version
    version = served if requested is None else requested
    if version not in held:
        named = " and ".join(str(number) for number in sorted(held))
        raise UsageError(f"there is no version {version} of the index, but {named}: no plane would use the adapter")
    return version, version_settings(settings, under_way, version)


def _check_encoder(settings: Settings, card: AdapterCard) -> None:
    from penstock.encoders.load import fingerprint
    from penstock.encoders.profiles import load_profile
    from penstock.errors import UsageError
    from penstock.query.adapters import encoder_text

    ours = encoder_text(fingerprint(card.role, load_profile(settings.profile)))
    if ours != card.encoder:
        raise UsageError(
            f"adapter {card.name} was fitted to {card.role} {card.encoder}, and profile {settings.profile} has {ours}: "
            "train it with this profile"
        )


def _promotion(card: AdapterCard, index_version: int) -> Promotion:
    from penstock.query.adapters import Promotion

    return Promotion(
        name=card.name,
        fingerprint=card.fingerprint,
        index_version=index_version,
        field=card.field,
        lang=card.lang,
        role=card.role,
        encoder=card.encoder,
        promoted_ms=int(time.time() * 1000),
    )


def _compare(assets: AssetStore, card: AdapterCard, used: Promotion) -> GateDecision:
    from penstock.errors import UsageError
    from penstock.query.adapters import read_card
    from penstock.train.adapter_card import parse_card
    from penstock.train.gate import against, judge

    stored = read_card(assets, used.fingerprint)
    if stored is None:
        raise UsageError(f"the card of adapter {used.name}, which is in use, is not in the asset store: roll it back")
    in_use = parse_card(stored, used.name)
    if not card.has_bank_of(in_use):
        raise UsageError(
            f"adapter {used.name}, which is in use, was measured on other documents ({in_use.data} {in_use.data_hash}) "
            f"than {card.name} ({card.data} {card.data_hash}), so the two cannot be compared: train it again on this "
            "data, or roll it back first"
        )
    say(f"Compared with {used.name}, which is in use.")
    return judge(against(card.figures, in_use.figures), lang=card.lang)


def _decline(card: AdapterCard, decision: GateDecision, *, as_json: bool) -> None:
    if as_json:
        slices = [asdict(gain) for gain in decision.slices]
        print_json({"promoted": None, "reasons": decision.reasons, "slices": slices})
        return
    show_gains(decision.slices, f"{card.name}: {card.data}, split dev")
    say(f"Declined: {'; '.join(decision.reasons)}. Nothing was changed.")


def _questions(promotion: Promotion) -> str:
    of_language = "all questions" if promotion.lang is None else f"questions in {promotion.lang}"
    return f"{of_language} on {promotion.field} of index version {promotion.index_version}"


def _row(promotion: Promotion, *, used: bool) -> dict[str, object]:
    from datetime import UTC, datetime

    return {
        "adapter": promotion.name,
        "state": "used" if used else "followed",
        "index": promotion.index_version,
        "field": promotion.field,
        "lang": promotion.lang or "all",
        "fingerprint": promotion.fingerprint,
        "since": datetime.fromtimestamp(promotion.promoted_ms / 1000, UTC).isoformat(timespec="seconds"),
    }


def _trained(folder: Path) -> list[dict[str, object]]:
    from penstock.train.adapter_card import parse_card

    cards = [parse_card(file.read_bytes(), str(file)) for file in sorted(folder.glob("*.card.json"))]
    return [
        {
            "adapter": card.name,
            "state": "trained" if card.fingerprint else "no gain",
            "index": "",
            "field": card.field,
            "lang": card.lang or "all",
            "fingerprint": card.fingerprint,
            "since": "",
        }
        for card in cards
    ]
