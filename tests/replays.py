"""The keys of replays in tests."""

from __future__ import annotations

from penstock.broker.base import Message
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP, format_origin
from penstock.broker.replay_keys import ReplayKeys
from penstock.config.replay import ReplaySettings
from penstock.records import Position


def keys_of(*keys: str, allow_unsigned: bool = False) -> ReplayKeys:
    """Returns the keys of replays with a key and a previous one, or none."""
    first, previous = (*keys, None, None)[:2]
    return ReplayKeys(ReplaySettings(key=first, previous_key=previous, allow_unsigned=allow_unsigned))


KEY = "a key of replays, for tests"
KEYS = keys_of(KEY)


def as_replay(message: Message, origin: Position, timestamp_ms: int) -> Message:
    """Returns a message as a signed replay of the event at `origin`."""
    added = ((ORIGIN, format_origin(origin)), (ORIGIN_TIMESTAMP, str(timestamp_ms).encode()))
    return KEYS.signed(
        Message(
            message.topic, message.key, message.value, message.headers + added, message.timestamp_ms, message.partition
        )
    )
