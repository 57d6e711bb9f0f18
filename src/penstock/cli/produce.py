"""`penstock produce`: sends files, folders, objects, tables, shards and topics to Kafka."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka
from penstock.cli.produce_options import (
    AttributeColumns,
    Attributes,
    ClaimCheckFlag,
    Columns,
    Delete,
    Key,
    Labels,
    MaxLag,
    Rate,
    Restart,
    Sources,
    StateFile,
    Tenant,
    Topic,
    VectorEncoder,
)
from penstock.cli.render import print_json, say

if TYPE_CHECKING:
    from penstock.cli.streaming import ProduceTally
    from penstock.config import Settings
    from penstock.produce.items import JsonObject, ProduceOptions, RefusalCount, RefusedSource


def produce(
    context: typer.Context,
    paths: Sources = None,
    *,
    tenant: Tenant = None,
    key: Key = None,
    topic: Topic = None,
    attributes: Attributes = None,
    acl: Labels = None,
    columns: Columns = None,
    attribute_columns: AttributeColumns = None,
    vector_encoder: VectorEncoder = None,
    rate: Rate = None,
    max_lag: MaxLag = None,
    claim_check: ClaimCheckFlag = False,
    state: StateFile = None,
    restart: Restart = False,
    delete: Delete = None,
    as_json: JsonFlag = False,
) -> None:
    """Send files, folders, objects, tables, shards and topics to Kafka.

    The type of a file is detected in its bytes and decides its topic. Its key is its path below the given folder, so
    sending the same folder again changes nothing, and a changed file replaces its entries. Hidden files are skipped.

    A line of JSONL is an object with exactly one of text, path (relative to the folder of the JSONL file) and uri (a
    claim check). Optional fields: key, modality or topic, title, attributes (an object), acl (a list of labels),
    tenant, time (RFC 3339 or milliseconds), id. Without a key, the key is the path, the uri, the id or a hash of the
    text. Rows of CSV and Parquet have the same fields as columns, and data (bytes) in place of path.

    A run that was interrupted continues where it was: run the same command again.

    Exits with 1 if an item was refused or not acknowledged, also by the runs that it continues, and lists these items.
    """
    from penstock.cli.produce_run import ProduceRun
    from penstock.cli.sources import tombstone
    from penstock.produce.items import ProduceOptions

    settings = connected_settings(context)
    named = _parse_attributes(attributes), claim_check, acl or None, _parse_columns(columns or [])
    options = ProduceOptions(tenant, key, topic, *named, tuple(attribute_columns or ()), vector_encoder)
    _check_request(paths or [], delete, options, settings)
    require_kafka(settings)
    run = ProduceRun(settings, rate_per_s=rate, max_lag=max_lag, quiet=as_json)
    if delete is not None and topic is not None:
        tally = run.send([tombstone(delete, topic, tenant or settings.tenant)])
    else:
        tally = run.send_sources(paths or [], options, state=state, restart=restart)
    if as_json:
        print_json(_summary(tally))
    else:
        _report(tally)
    if not tally.complete:
        raise typer.Exit(1)


def _parse_attributes(text: str | None) -> JsonObject | None:
    from penstock.errors import UsageError

    if text is None:
        return None
    try:
        attributes = json.loads(text)
    except json.JSONDecodeError as exc:
        raise UsageError(f"--attributes is not JSON: {exc}") from exc
    if not isinstance(attributes, dict):
        raise UsageError('--attributes must be a JSON object, such as \'{"camera": "x100"}\'')
    return attributes


def _parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    from penstock.errors import UsageError

    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise UsageError(f"--column {pair} is not FIELD=COLUMN, such as text=caption")
        columns[field] = column
    return columns


def _check_request(paths: Sequence[str], delete: str | None, options: ProduceOptions, settings: Settings) -> None:
    from penstock.cli.sources import STDIN
    from penstock.errors import UsageError
    from penstock.produce.compose import check_topic
    from penstock.produce.open_source import is_url

    if options.topic is not None:
        check_topic(options.topic, settings)
    if delete is not None and (paths or options.topic is None):
        raise UsageError(f"--delete KEY takes no paths and needs --topic, such as --topic {settings.kafka.text_topic}")
    if delete is None and not paths:
        raise UsageError("give files, folders or .jsonl files, or - for JSONL on stdin")
    single = len(paths) == 1 and paths[0] != STDIN and not is_url(paths[0]) and not Path(paths[0]).is_dir()
    if options.key is not None and not single:
        raise UsageError("--key is for a single asset: give exactly one file")


def _report(tally: ProduceTally) -> None:
    topics = ", ".join(f"{count} to {topic}" for topic, count in sorted(tally.by_topic.items()))
    say(f"{tally.acknowledged} events acknowledged" + (f": {topics}" if topics else ""))
    _report_refusals("refused", tally.refused_before, tally.refused)
    _report_refusals("not acknowledged", tally.failed_before, tally.failed)


def _report_refusals(heading: str, before: RefusalCount, sources: Sequence[RefusedSource]) -> None:
    """Shows the refusals of all runs of a request: those of earlier runs first."""
    together = before.plus(sources)
    if together.count:
        of_earlier = f" ({before.count} by earlier runs)" if before.count else ""
        say(f"{together.count} {heading}{of_earlier}:")
    for source in together.first:
        say(f"  {source.label}: {source.reason}")
    if together.count > len(together.first):
        say(f"  … and {together.count - len(together.first)} more; --json lists all of this run")


def _summary(tally: ProduceTally) -> Mapping[str, object]:
    return {
        "acknowledged": tally.acknowledged,
        "acknowledged_bytes": tally.acknowledged_bytes,
        "by_topic": tally.by_topic,
        "refused": [_described(source) for source in tally.refused],
        "not_acknowledged": [_described(source) for source in tally.failed],
        "earlier_runs": {
            "refused": _counted(tally.refused_before),
            "not_acknowledged": _counted(tally.failed_before),
        },
    }


def _counted(refusals: RefusalCount) -> Mapping[str, object]:
    return {"count": refusals.count, "first": [_described(source) for source in refusals.first]}


def _described(source: RefusedSource) -> Mapping[str, str]:
    return {"label": source.label, "reason": source.reason}
