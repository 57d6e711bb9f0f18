"""Makes the events again of assets that the topics no longer have, from what the old version keeps.

Such a refill is a signed replay of the asset's newest event: it has the version of that event, so that the plane that
feeds the old version settles it as what it has already, and a newer event supersedes it wherever it is on its way. The
media are named by their address in the asset store or by their claim check; title, attributes, time and type come from
an entry of the old version, the labels from the asset's row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.assets import sha256_of
from penstock.broker import headers as names
from penstock.broker.base import Message, Partition, PartitionLag
from penstock.broker.tombstones import key_bytes
from penstock.broker.wire import REFILL_SOURCE, encode_event, render_key
from penstock.errors import BadInputError
from penstock.records import AssetRow, ClaimCheck, Collection, Entry, Modality, part_id
from penstock.store.base import AssetLookup


@dataclass(frozen=True, slots=True)
class RefillTargets:
    """The topics to which refills go.

    Attributes:
        modality_of: the modality of a topic; None for one that is no media topic.
        tenant_of: the tenant to whom a topic belongs; None if its events name their own.
        is_framed: whether the values of a topic begin with a frame, which a value without media cannot have.
        is_kept: whether the asset store has media of this hash.
    """

    modality_of: Callable[[str], Modality | None]
    tenant_of: Callable[[str], str | None]
    is_framed: Callable[[str], bool]
    is_kept: Callable[[str], bool]


def refill_of(row: AssetRow, entry: Entry | None, targets: RefillTargets, log: PartitionLag | None) -> Message | str:
    """Returns the refill of an indexed asset, not signed yet, or why it cannot be made: one line.

    Args:
        row: of the asset, in the old version.
        entry: one of its entries; None if it has none.
        targets: the topics.
        log: the partition of its newest event; None if there is none any more.
    """
    return _obstacle(row, targets, log) or _refill(row, entry, targets)


def _obstacle(row: AssetRow, targets: RefillTargets, log: PartitionLag | None) -> str:
    """Returns why an asset cannot be made again; empty if it can."""
    topic = row.asset.topic
    if targets.modality_of(topic) is None:
        return f"{topic} is none of the media topics of the settings (kafka.*_topic, kafka.tenants)"
    if targets.tenant_of(topic) not in (None, row.asset.tenant):
        return f"{topic} belongs to another tenant now (kafka.tenants)"
    return _without_log(row, log) or _without_media(row, targets)


def _without_log(row: AssetRow, log: PartitionLag | None) -> str:
    """Returns why a replay of the event of a row would be refused; empty if it would not."""
    topic, origin = row.asset.topic, row.origin
    if log is None:
        return f"there is no partition {origin.partition} of {topic} any more; produce the asset again"
    if origin.offset >= log.log_end:
        return f"{topic} was created again since its event; produce the asset again"
    return ""


def _without_media(row: AssetRow, targets: RefillTargets) -> str:
    """Returns why the media of a row are not available; empty if they may be there."""
    if not row.uri:
        return "its row names no media; produce the asset again"
    sha256 = sha256_of(row.uri)
    if sha256 is not None and not targets.is_kept(sha256):
        return f"its media {row.uri} are not in the asset store; produce the asset again"
    return ""


def _refill(row: AssetRow, entry: Entry | None, targets: RefillTargets) -> Message | str:
    asset, origin = row.asset, row.origin
    try:
        message = encode_event(
            topic=asset.topic,
            key=None,
            payload=ClaimCheck(row.uri),
            source=REFILL_SOURCE,
            content_type=entry.mime or None if entry is not None else None,
            tenant=asset.tenant,
            title=entry.title if entry is not None else "",
            attributes=json.loads(entry.attributes_json) if entry is not None else None,
            acl=row.acl,
            time_ms=entry.event_time_ms if entry is not None else row.version.timestamp_ms,
            event_id=f"{asset.id}-{origin.partition}-{origin.offset}",
        )
    except (BadInputError, ValueError, OverflowError) as exc:
        return f"its event cannot be made again: {exc}"
    key, subject = _key_of(asset.key)
    added = (
        *subject,
        (names.ORIGIN, names.format_origin(origin)),
        (names.ORIGIN_TIMESTAMP, str(row.version.timestamp_ms).encode()),
    )
    value = None if targets.is_framed(asset.topic) else b""
    return replace(message, key=key, value=value, headers=(*message.headers, *added), partition=origin.partition)


def _key_of(key: str) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    """Returns the message key of an asset's key, or, where no message key becomes it, the header that names it."""
    encoded = key_bytes(key)
    try:
        if encoded and render_key(encoded) == key:
            return encoded, ()
    except BadInputError:
        pass
    return None, (("ce_subject", key.encode()),)


def first_entries(store: AssetLookup, rows: Sequence[AssetRow]) -> Mapping[str, Entry]:
    """Returns the first entry of each asset that has any, by the asset's id."""
    ids: dict[Collection, list[str]] = {}
    for row in rows:
        collection = next((name for name in Collection if row.counts.get(name)), None)
        if collection is not None:
            ids.setdefault(collection, []).append(part_id(row.asset.id, collection, 0, row.slot))
    return {entry.asset.id: entry for collection, some in ids.items() for entry in store.get(collection, some)}


def partition_of_row(row: AssetRow) -> Partition:
    """Returns the partition of the event that a row stands for."""
    return Partition(row.asset.topic, row.version.partition)
