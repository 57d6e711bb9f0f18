"""`penstock export`: writes the index as Parquet for other programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, of_kept_index, require_store
from penstock.cli.render import print_json, say, stage_progress
from penstock.observability.audit_log import record_command


def export(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="An empty folder: any fsspec URL, or a path.")],
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only the entries of this tenant.")] = None,
    without_vectors: Annotated[bool, typer.Option("--without-vectors", help="Leave the vectors out.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write all entries as Parquet: vectors, texts, times, attributes and labels, one folder for each collection.

    `export.json` beside them names all files, and the encoder of each vector. Ingestion and search continue. An export
    cannot be restored: `penstock backup` is for that.
    """
    from penstock.assembly import open_store
    from penstock.backup.exporting import ExportFolder
    from penstock.backup.exporting import export as export_index

    settings = of_kept_index(connected_settings(context))
    require_store(settings)
    folder = ExportFolder(url)
    store = open_store(settings.store)
    try:
        spec = store.recorded_spec(settings.store.version)
        store.use_version(settings.store.version, spec.vectors)
        with stage_progress(quiet=as_json) as show_stage:
            report = export_index(
                store, spec, folder, tenant=tenant, with_vectors=not without_vectors, on_progress=show_stage
            )
    finally:
        store.close()
    record_command(settings, "export", "ok", tenant=tenant, entries=sum(report.entries.values()))
    if as_json:
        print_json(asdict(report))
        return
    counts = ", ".join(f"{count:,} in {collection}" for collection, count in report.entries.items())
    say(f"Wrote {counts}: {report.files:,} files with {report.size / 1e6:,.1f} MB.")
