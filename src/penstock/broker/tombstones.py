"""Writes the tombstones of assets that Penstock deletes itself: by a purge, or because their time is over."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from penstock.broker.base import Message
from penstock.broker.wire import TYPE_DELETED
from penstock.records import AssetRef

_HEX = "hex:"


def tombstone(asset: AssetRef, *, partition: int, source: str, now_ms: int) -> Message:
    """Returns the message that deletes an asset.

    Args:
        asset: the asset.
        partition: of the event that its row stands for, within which the later offset is the newer version.
        source: CloudEvents `source`, such as `penstock/purge`.
        now_ms: milliseconds since the epoch.
    """
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": source,
        "type": TYPE_DELETED,
        "time": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat().replace("+00:00", "Z"),
        "tenant": asset.tenant,
    }
    headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    return Message(asset.topic, key_bytes(asset.key), None, headers, now_ms, partition)


def key_bytes(key: str) -> bytes:
    """Returns the message key of an asset's key: its UTF-8, or the bytes behind `hex:`; see `broker.wire`."""
    if key.startswith(_HEX):
        try:
            return bytes.fromhex(key.removeprefix(_HEX))
        except ValueError:  # the name of an event without a message key
            pass
    return key.encode()
