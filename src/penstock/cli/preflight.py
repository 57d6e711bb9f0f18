"""`penstock preflight`: checks, before others reach a plane, what protects it, and prints one table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.common import JsonFlag, topic_settings
from penstock.cli.render import print_json, print_table, say

if TYPE_CHECKING:
    from penstock.broker.rights import Right
    from penstock.cli.preflight_checks import PreflightCheck
    from penstock.config import Settings

_PLANES = ("ingest", "query")


def preflight(
    context: typer.Context,
    *,
    plane: Annotated[str, typer.Option(metavar="ingest|query|both", help="Check the rights of this plane.")] = "both",
    offline: Annotated[
        bool, typer.Option("--offline", help="Connect to nothing: check settings, environment and files alone.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check transport, credentials, rights, Ray's token and the modes of files, and say what to do about each.

    It changes nothing. Run it with the settings and as the user of a plane, on each kind of node. A note is something
    that is allowed and should be known. Exits with 1 if a check fails.
    """
    from penstock.cli.preflight_checks import CheckResult, settings_checks
    from penstock.errors import UsageError

    if plane not in (*_PLANES, "both"):
        raise UsageError(f"--plane {plane!r} is none of ingest, query and both")
    settings = topic_settings(context)
    planes = _PLANES if plane == "both" else (plane,)
    checks = list(settings_checks(settings, os.environ))
    if not offline:
        for name in planes:
            checks += _kafka_rights(settings, name)
        checks += [*_store_access(settings, planes), *_asset_store(settings)]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table([_row(check) for check in checks])
        counts = Counter(check.result.value for check in checks)
        say(", ".join(f"{count} {result}" for result, count in sorted(counts.items())))
    raise typer.Exit(1 if any(check.result is CheckResult.FAILS for check in checks) else 0)


def _row(check: PreflightCheck) -> dict[str, object]:
    return {"area": check.area, "": check.result.value, "checked": check.subject, "what to do": check.detail}


def needed_rights(settings: Settings, plane: str) -> dict[str, Right]:
    """Returns the right that a plane needs on each topic, by its name: ingest or query."""
    from penstock.broker.rights import Right

    kafka = settings.kafka
    media = [topic for topic, modality in kafka.topics().items() if modality in settings.ingest.modalities]
    if plane == "query":
        rights = {kafka.changes_topic: Right.READ, kafka.watches_topic: Right.WRITE, kafka.matches_topic: Right.WRITE}
        if settings.takes_events:
            rights |= dict.fromkeys(media, Right.WRITE)
    else:
        others = {
            kafka.dead_letter_topic: Right.WRITE,
            kafka.control_topic: Right.READ,
            kafka.changes_topic: Right.WRITE,
        }
        rights = dict.fromkeys(media, Right.READ) | others
    return {topic: right for topic, right in rights.items() if topic}


def _kafka_rights(settings: Settings, plane: str) -> Iterator[PreflightCheck]:
    from penstock.broker.topic_findings import FindingKind
    from penstock.broker.topics import missing_rights
    from penstock.cli.preflight_checks import CheckResult, PreflightCheck
    from penstock.errors import PenstockError

    if settings.kafka.bootstrap_servers is None:
        yield PreflightCheck("Kafka", f"rights of {plane}", CheckResult.UNCHECKED, "kafka.bootstrap_servers is not set")
        return
    needed = needed_rights(settings, plane)
    try:
        findings = missing_rights(settings.kafka, needed, joins_group=plane == "ingest")
    except PenstockError as exc:
        yield PreflightCheck("Kafka", f"rights of {plane}", CheckResult.FAILS, str(exc))
        return
    for finding in findings:
        result = CheckResult.NOTE if finding.kind is FindingKind.MISSING else CheckResult.FAILS
        yield PreflightCheck("Kafka", f"{plane}: {finding.topic or settings.kafka.group}", result, finding.detail)
    if not findings:
        yield PreflightCheck("Kafka", f"rights of {plane} on {len(needed)} topics", CheckResult.OK)


def _store_access(settings: Settings, planes: tuple[str, ...]) -> Iterator[PreflightCheck]:
    from penstock.assembly import open_store
    from penstock.cli.preflight_checks import CheckResult, PreflightCheck
    from penstock.errors import PenstockError

    if settings.store.uri is None:
        yield PreflightCheck("store", "access", CheckResult.UNCHECKED, "store.uri is not set")
        return
    for plane in planes:
        user: Literal["readonly_token", "token"] = (
            "readonly_token" if plane == "query" and settings.store.has_secret("readonly_token") else "token"
        )
        subject = f"{plane} reads the collections (store.{user})"
        try:
            store = open_store(settings.store, for_queries=plane == "query")
            try:
                versions = store.aliases.candidates("asset")
            finally:
                store.close()
        except PenstockError as exc:
            yield PreflightCheck("store", subject, CheckResult.FAILS, str(exc))
            continue
        missing = "" if versions else "there is no index yet: the ingest plane creates it at its start"
        yield PreflightCheck("store", subject, CheckResult.OK if versions else CheckResult.NOTE, missing)


def _asset_store(settings: Settings) -> Iterator[PreflightCheck]:
    from penstock.assembly import open_assets
    from penstock.cli.preflight_checks import CheckResult, PreflightCheck
    from penstock.errors import PenstockError

    try:
        open_assets(settings).owner()
    except PenstockError as exc:
        yield PreflightCheck("assets", "the asset store is read", CheckResult.FAILS, str(exc))
    else:
        yield PreflightCheck("assets", "the asset store is read", CheckResult.OK)
