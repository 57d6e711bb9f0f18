"""`penstock reindex compare|switch|rollback`: which version of the index is served, and whether it should be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, of_kept_index, require_store, topic_settings
from penstock.cli.render import print_json, print_table, say
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.assets import AssetStore
    from penstock.cli.reindex_report import ComparisonReport
    from penstock.config import Settings
    from penstock.store.milvus.store import MilvusStore
    from penstock.versions import Reindex

_NO_REPLICA = (
    "no replica of a query plane has reported within the last 20 seconds: start one, let it write to the asset store "
    "(folder `replicas`), or add --no-replicas if none runs"
)
# A replica looks every 0.25 s; longer only if the store is slow.
_SERVED_WITHIN_S = 10.0

_SetsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[SET…]",
        help="Folders of evaluation sets (docs/evaluate.md) that both versions hold. Default: questions from the "
        "entries of the index, and the answers of the old version in place of labels.",
    ),
]
_MinRecallOption = Annotated[
    float | None, typer.Option(metavar="R", min=0, max=1, help="Exit with 1 if recall@10 of the new version is below.")
]
_NoReplicasFlag = Annotated[
    bool, typer.Option("--no-replicas", help="Switch although no replica of a query plane reports.")
]


def add_switch(app: typer.Typer) -> None:
    """Adds the commands to those of `penstock reindex`."""
    app.command("compare")(compare)
    app.command("switch")(switch)
    app.command("rollback")(rollback)


def compare(
    context: typer.Context,
    sets: _SetsArgument = None,
    *,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Whose entries give the questions.")] = None,
    questions: Annotated[int, typer.Option(metavar="N", min=1, help="Questions from the index.")] = 100,
    split: Annotated[str, typer.Option(metavar="NAME", help="Queries of the sets: train, dev, test or all.")] = "test",
    min_recall: _MinRecallOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare the version that is filled with the one that was served before.

    Shows assets and entries by tenant and topic, the assets that the new version lacks by name, recall@10 and nDCG@10
    of both on the same questions, their latency, and the size of their vectors. The query plane answers the questions:
    it holds both versions once the new one is ready. Exits with 1 below --min-recall, or if assets are missing.
    """
    from penstock.cli.reindex_report import compare_versions

    settings = of_kept_index(topic_settings(context))
    with _opened(settings) as (store, assets):
        reindex = _reindex(store, assets)
        report = compare_versions(
            settings, assets, reindex, sets or [], tenant=tenant or settings.tenant, questions=questions, split=split
        )
    print_json(report.document()) if as_json else _show(report)
    failures = list(report.failures(min_recall, waived=reindex.waived))
    for failure in failures:
        say(failure)
    raise typer.Exit(1 if failures else 0)


def switch(
    context: typer.Context,
    *,
    max_lag: Annotated[
        int, typer.Option(metavar="N", min=0, help="Events by which the new version may be behind its topics.")
    ] = 1_000,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="Time to wait until all replicas hold both versions.")
    ] = 120.0,
    waive: Annotated[bool, typer.Option("--waive", help="Go without the assets that are not available.")] = False,
    no_replicas: _NoReplicasFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Let the new version of the index be served.

    Refused while the new version is being filled, lacks assets that were not waived, or lags. Waits until every replica
    of the query plane holds both versions, so that each answers from the new one within a second; the old one is still
    fed, for `penstock reindex rollback`.
    """
    from penstock.broker.topics import group_lag
    from penstock.errors import UnavailableError
    from penstock.versions import read_progress
    from penstock.versions.readiness import check_filled, check_lag, confirm_filled, lacking_replicas, wait_until
    from penstock.versions.replicas import read_reports

    settings = of_kept_index(topic_settings(context))
    with _opened(settings) as (store, assets):
        reindex = _reindex(store, assets)
        check_filled(replace(reindex, waived=reindex.waived or waive), read_progress(assets))
        group = settings.kafka.model_copy(update={"group": reindex.group})
        check_lag(reindex.to_version, sum(partition.lag for partition in group_lag(group)), max_lag)

        def lacking() -> Sequence[str]:
            reports = read_reports(assets, now_ms=_now_ms())
            return [_NO_REPLICA] if not reports else lacking_replicas(reports, reindex.to_version)

        if not no_replicas and not wait_until(lambda: not lacking(), timeout_s=wait_s):
            raise UnavailableError("; ".join(lacking()))
        confirm_filled(assets, reindex.to_version, waive=waive)
        _serve(settings, store, assets, reindex.to_version, "switch", as_json=as_json)


def rollback(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Let the old version of the index be served again, within a second.

    It was fed all the time, so that nothing is lost; the new version is still fed as well, for another switch.
    """
    from penstock.errors import UsageError
    from penstock.versions import Phase
    from penstock.versions.readiness import lacking_replicas
    from penstock.versions.replicas import read_reports

    settings = of_kept_index(topic_settings(context))
    with _opened(settings) as (store, assets):
        reindex = _reindex(store, assets)
        if reindex.phase is Phase.DROPPED:
            raise UsageError("one of the two versions is being removed: there is nothing to roll back to")
        for line in lacking_replicas(read_reports(assets, now_ms=_now_ms()), reindex.from_version):
            say(f"{line}; it answers from version {reindex.to_version} until it does")
        _serve(settings, store, assets, reindex.from_version, "rollback", as_json=as_json)


def _serve(
    settings: Settings, store: MilvusStore, assets: AssetStore, version: int, action: str, *, as_json: bool
) -> None:
    """Switches, waits until all replicas that hold the version answer from it, and reports.

    The aliases of the entries, by which no replica searches, follow after the report.
    """
    from penstock.versions.readiness import wait_until
    from penstock.versions.replicas import read_reports
    from penstock.versions.switching import begin_switch, complete_switch

    store.ping()  # connected, so that the switch itself is one request
    started_s = time.monotonic()
    intention = begin_switch(store, assets, version)
    record_command(settings, f"reindex {action}", "ok", version=version)

    def all_serve() -> bool:
        reports = read_reports(assets, now_ms=_now_ms())
        return all(report.serves == version for report in reports if version in report.holds)

    served = wait_until(all_serve, timeout_s=_SERVED_WITHIN_S)
    replicas = sum(report.serves == version for report in read_reports(assets, now_ms=_now_ms()))
    took_s = round(time.monotonic() - started_s, 3)
    if as_json:
        print_json({"version": version, "replicas": replicas, "all_replicas": served, "took_s": took_s})
    else:
        say(f"Version {version} of the index is served by {replicas} replicas, after {took_s:.2f} s.")
    complete_switch(store, assets, intention)
    if not served:
        say(f"Not every replica answers from version {version} yet: see its log.")
    raise typer.Exit(0 if served else 1)


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[MilvusStore, AssetStore]]:
    from penstock.assembly import open_assets, open_store

    require_store(settings)
    store = open_store(settings.store)
    try:
        yield store, open_assets(settings)
    finally:
        store.close()


def _reindex(store: MilvusStore, assets: AssetStore) -> Reindex:
    """Returns the re-index that is under way, after a switch that was interrupted is finished."""
    from penstock.errors import UsageError
    from penstock.versions import read_reindex
    from penstock.versions.switching import finish_switch

    if (served := finish_switch(store, assets)) is not None:
        say(f"A switch was interrupted and is finished: version {served} is served.")
    reindex = read_reindex(assets)
    if reindex is None:
        raise UsageError("no re-index is under way: `penstock reindex start` begins one")
    return reindex


def _show(report: ComparisonReport) -> None:
    print_table(report.count_rows(), title="Assets and entries")
    print_table(report.figure_rows(), title="Answers and size")
    for asset in report.assets.named:
        say(f"missing: {asset.tenant} {asset.topic} {asset.key}")
    if report.assets.missing > len(report.assets.named):
        say(f"missing: {report.assets.missing - len(report.assets.named):,} more")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
