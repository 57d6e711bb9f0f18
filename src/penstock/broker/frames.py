"""Takes off, or refuses by its name, the frame that serializers of a Schema Registry write before each value.

It is a zero and the number of the schema in four bytes. Other media may begin alike (icons, MP4, UTF-16), so a frame is
taken off only where the settings say that a topic has them.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from penstock.broker.event_values import refuse
from penstock.records import Record

_FRAME_BYTES = 5


def without_frame(record: Record) -> Record:
    """Returns a record of a topic whose values have frames, without it. A deletion has none.

    Raises:
        BadInputError: `MALFORMED`, the value has no frame.
    """
    if not record.value:
        return record
    if _schema_of(record.value) is None:
        refuse(
            f"the value has no frame of a Schema Registry serializer, but {record.position.topic} is one of "
            "kafka.framed_topics"
        )
    return replace(record, value=record.value[_FRAME_BYTES:])


def check_no_frame(value: bytes | None) -> None:
    """Raises BadInputError for JSON behind a frame, which is no media."""
    schema = _schema_of(value or b"")
    if value is None or schema is None or value[_FRAME_BYTES : _FRAME_BYTES + 1] not in (b"{", b"["):
        return
    try:
        msgspec.json.decode(memoryview(value)[_FRAME_BYTES:], type=msgspec.Raw)
    except (ValueError, RecursionError):
        return
    refuse(
        f"the value is JSON behind the frame of a Schema Registry serializer (schema {schema}); name its topic in "
        "kafka.framed_topics, or produce it without one"
    )


def _schema_of(value: bytes) -> int | None:
    """Returns the number of the schema in the frame before a value; None if it has none."""
    return int.from_bytes(value[1:_FRAME_BYTES], "big") if len(value) > _FRAME_BYTES and value[0] == 0 else None
