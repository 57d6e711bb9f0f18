"""The messages of the change feed: JSON, a public contract of version 1, which docs/changes.md describes.

    key    the tenant: its messages keep their order
    value  {"version": 1, "tenant": "acme", "index_version": 1, "changes": [{"topic": "media.text", "key": "a.txt",
            "partition": 0, "offset": 7, "timestamp_ms": …, "indexed_at_ms": …, "deleted": false, "complete": true,
            "slot": 0, "counts": {"text": 3}, "since": {}, "acl": ["tenant"]}]}

Readers ignore members that they do not know, and messages of a version that they do not know.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.broker.base import Message
from penstock.records import Collection, IndexChange, Position, Record

logger = logging.getLogger(__name__)

VERSION = 1
# Well below Kafka's own default limit of 1 MiB for a message: some 2,000 changes.
MAX_MESSAGE_BYTES = 512 * 1024


def change_messages(
    topic: str, changes: Sequence[IndexChange], *, index_version: int = 0, max_bytes: int = MAX_MESSAGE_BYTES
) -> Iterator[Message]:
    """Yields the messages of a batch: one a tenant, or more where it would be longer than `max_bytes`.

    Args:
        topic: of the feed.
        changes: of one batch.
        index_version: that the batch was written to; 0: it is not stated.
        max_bytes: of a message.
    """
    by_tenant: dict[str, list[IndexChange]] = {}
    for change in changes:
        by_tenant.setdefault(change.tenant, []).append(change)
    for tenant, own in by_tenant.items():
        index = f'"index_version":{index_version},' if index_version else ""
        head = f'{{"version":{VERSION},"tenant":{json.dumps(tenant)},{index}"changes":['
        for part in _parts([_dumps(change) for change in own], max_bytes - len(head) - 2):
            yield Message(topic, tenant.encode(), f"{head}{','.join(part)}]}}".encode())


def parse_change_message(record: Record) -> Sequence[IndexChange]:
    """Returns the changes of a message; none, and logs a warning, if its version is not known."""
    try:
        body = json.loads(record.value or b"null")
        if body["version"] != VERSION:
            raise ValueError(f"its version is {body['version']}")
        tenant = str(body["tenant"])
        index_version = int(body.get("index_version", 0))
        return [_change(tenant, index_version, raw) for raw in body["changes"]]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        logger.warning("%s is not a message of the change feed in version %d: %r", record.position, VERSION, exc)
        return []


def _parts(written: Sequence[str], max_bytes: int) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for change in written:
        change_size = len(change.encode()) + 1
        if part and size + change_size > max_bytes:
            yield part
            part, size = [], 0
        part.append(change)
        size += change_size
    if part:
        yield part


def _dumps(change: IndexChange) -> str:
    return json.dumps(
        {
            "topic": change.topic,
            "key": change.key,
            "partition": change.origin.partition,
            "offset": change.origin.offset,
            "timestamp_ms": change.timestamp_ms,
            "indexed_at_ms": change.indexed_at_ms,
            "deleted": change.deleted,
            "complete": change.complete,
            "slot": change.slot,
            "counts": dict(change.counts),
            "since": {collection: part for collection, part in change.since.items() if part},
            "acl": change.acl,
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _change(tenant: str, index_version: int, raw: Mapping[str, Any]) -> IndexChange:
    return IndexChange(
        tenant=tenant,
        topic=str(raw["topic"]),
        key=str(raw["key"]),
        origin=Position(str(raw["topic"]), int(raw["partition"]), int(raw["offset"])),
        deleted=bool(raw["deleted"]),
        counts=_parts_by_collection(raw["counts"]),
        indexed_at_ms=int(raw["indexed_at_ms"]),
        timestamp_ms=int(raw["timestamp_ms"]),
        slot=int(raw["slot"]),
        since=_parts_by_collection(raw["since"]),
        complete=bool(raw["complete"]),
        acl=tuple(map(str, raw.get("acl", ()))),
        index_version=index_version,
    )


def _parts_by_collection(raw: Mapping[str, Any]) -> dict[Collection, int]:
    """Reads numbers by collection; one that this version does not know is left out."""
    known = {collection.value: collection for collection in Collection}
    return {known[name]: int(number) for name, number in raw.items() if name in known}
