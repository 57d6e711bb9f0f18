"""The messages of watches and of their matches: JSON of version 1, which docs/watches.md describes.

watches   key: id of the watch   value: the watch, or null once it is deleted; compacted
matches   key: id of the watch   value: {"version": 1, "id": …, "watch": {…}, "relevance": 0.87, "entry": {…}}
"""

from __future__ import annotations

import json
import logging

from penstock.broker.base import Message, TopicReader
from penstock.records import Record, Watch, WatchMatch

logger = logging.getLogger(__name__)

VERSION = 1


def watch_message(topic: str, watch: Watch) -> Message:
    """Returns the message that keeps a watch."""
    value = {
        "version": VERSION,
        "id": watch.id,
        "name": watch.name,
        "tenant": watch.tenant,
        "min_relevance": watch.min_relevance,
        "created_ms": watch.created_ms,
        "search": watch.search,
        **({} if watch.labels is None else {"labels": sorted(watch.labels)}),
    }
    return Message(topic, watch.id.encode(), _dumps(value))


def deletion_message(topic: str, watch_id: str) -> Message:
    """Returns the message that deletes a watch."""
    return Message(topic, watch_id.encode(), None)


def parse_watch(record: Record) -> Watch | None:
    """Returns the watch of a message; None, and logs a warning, if its version is not known."""
    try:
        value = json.loads(record.value or b"null")
        if value["version"] != VERSION:
            raise ValueError(f"its version is {value['version']}")
        return Watch(
            id=str(value["id"]),
            name=str(value["name"]),
            tenant=str(value["tenant"]),
            min_relevance=float(value["min_relevance"]),
            created_ms=int(value["created_ms"]),
            search=dict(value["search"]),
            labels=frozenset(map(str, value["labels"])) if "labels" in value else None,
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        logger.warning("%s is not a watch in version %d: %r", record.position, VERSION, exc)
        return None


def read_watches(reader: TopicReader, topic: str) -> list[Watch]:
    """Returns the watches that a topic keeps now, the newest message of each."""
    newest: dict[bytes | None, Record] = {}
    for partition, log in reader.bounds([topic]).items():
        newest.update((record.key, record) for record in reader.read(partition, log.start, log.end))
    kept = (parse_watch(record) for record in newest.values() if record.value is not None)
    return [watch for watch in kept if watch is not None]


def match_message(topic: str, match: WatchMatch) -> Message:
    """Returns the message of a match."""
    watch, entry = match.watch, match.entry
    value = {
        "version": VERSION,
        "id": match.id,
        "watch": {"id": watch.id, "name": watch.name},
        "tenant": watch.tenant,
        "relevance": round(match.relevance, 4),
        "entry": {
            "id": entry.id,
            "collection": entry.collection,
            "topic": entry.asset.topic,
            "key": entry.asset.key,
            "part": entry.part,
            "title": entry.title,
            "text": entry.text,
            "uri": entry.uri,
            "mime": entry.mime,
            "attributes": json.loads(entry.attributes_json or "{}"),
            "start_ms": entry.start_ms,
            "end_ms": entry.end_ms,
            "start_char": entry.start_char,
            "end_char": entry.end_char,
            "page": entry.page,
            "page_label": entry.page_label,
            "figure": entry.figure,
            "event_time_ms": entry.event_time_ms,
            "indexed_at_ms": entry.indexed_at_ms,
            "thumbnail": entry.thumbnail,
            "origin": {
                "topic": entry.origin.topic,
                "partition": entry.origin.partition,
                "offset": entry.origin.offset,
                "timestamp_ms": match.version.timestamp_ms,
            },
        },
    }
    return Message(topic, watch.id.encode(), _dumps(value))


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
