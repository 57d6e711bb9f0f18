"""The messages of feedback: JSON by the event schema of User Behavior Insights 1.3, in a CloudEvent of binary mode.

    key      the vote: voter, question and asset, so that what replaces a vote follows it in its partition
    headers  ce_specversion, ce_id, ce_source, ce_type (`TYPE`), ce_time, ce_tenant, content-type
    value    {"application": "penstock", "action_name": "click", "query_id": …, "client_id": …, "timestamp": …,
              "message_type": "CLICK_THROUGH", "user_query": …, "event_attributes": {"object": {…}, "position": {…},
              "penstock": {…}}}

`client_id` is the voter, a digest. `user_query` is left out unless the words of questions are kept. What Milvus and
the training need beside, and UBI has no place for, is in `event_attributes.penstock`: the asset, the hits that were
shown, and the vector of the question as float16 in base64, with its encoder. docs/feedback.md describes them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from penstock.broker.base import Message
from penstock.broker.event_values import load_object, refuse
from penstock.broker.wire import MAX_AHEAD_MS
from penstock.errors import BadInputError, Reason
from penstock.records import MAX_SHOWN, Action, AssetRef, Choice, Collection, Float32, Record

TYPE = "penstock.feedback.v1"
SOURCE = "penstock/query"
MAX_BYTES = 64 * 1024
"""Of a value: a question of 8 kB, 100 hits and a vector of 4,096 dimensions have 25 kB."""
_MAX_DIM = 16_384
_MAX_NAME_BYTES = 512  # of a tenant or a topic, as the store keeps them
_MESSAGE_TYPES = {Action.CLICK: "CLICK_THROUGH", Action.LIKE: "LIKE", Action.DISLIKE: "DISLIKE"}
_DIGEST_CHARS = 32
_LATEST_MS = 253_402_300_799_000  # the year 9999, which RFC 3339 can still write


def feedback_message(topic: str, choice: Choice, *, query_id: str) -> Message:
    """Returns the message of a choice.

    Args:
        topic: of feedback.
        choice: to be written.
        query_id: of the search whose answer showed the hit.
    """
    time = datetime.fromtimestamp(choice.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    value: dict[str, object] = {
        "application": "penstock",
        "action_name": choice.action,
        "query_id": query_id,
        "client_id": choice.voter,
        "timestamp": time,
        "message_type": _MESSAGE_TYPES[choice.action],
        **({"user_query": choice.text} if choice.text else {}),
        "event_attributes": {
            "object": {"object_id": choice.entry_id, "object_id_field": "id"},
            "position": {"ordinal": choice.rank},
            "penstock": {
                "asset": {"tenant": choice.asset.tenant, "topic": choice.asset.topic, "key": choice.asset.key},
                "collection": choice.collection,
                "question": choice.question,
                "shown": list(choice.shown),
                "encoder": choice.encoder,
                "vector": base64.b64encode(choice.vector.astype("<f2").tobytes()).decode(),
            },
        },
    }
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{choice.id}-{choice.time_ms}",
        "ce_source": SOURCE,
        "ce_type": TYPE,
        "ce_time": time,
        "ce_tenant": choice.asset.tenant,
        "content-type": "application/json",
    }
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Message(topic, choice.id.encode(), data, tuple((name, text.encode()) for name, text in headers.items()))


def parse_feedback(record: Record) -> Choice:
    """Returns the choice of a record.

    Raises:
        BadInputError: it is not a message of feedback, or its time is ahead of the record's; it says what is wrong.
    """
    if record.value is None or len(record.value) > MAX_BYTES:
        refuse(f"an event of feedback has a value of up to {MAX_BYTES:,} bytes")
    event = load_object(record.value, "the event of feedback")
    attributes = _object(event, "event_attributes")
    own = _object(attributes, "penstock")
    asset = _object(own, "asset")
    choice = Choice(
        asset=AssetRef(_name(asset, "tenant"), _name(asset, "topic"), _text(asset, "key")),
        collection=_collection(_text(own, "collection")),
        entry_id=_digest(_object(attributes, "object"), "object_id"),
        voter=_digest(event, "client_id"),
        question=_digest(own, "question"),
        vector=_vector(_text(own, "vector")),
        encoder=_text(own, "encoder"),
        action=_action(_text(event, "action_name")),
        rank=_rank(_object(attributes, "position")),
        shown=_shown(own.get("shown")),
        time_ms=_time_ms(_text(event, "timestamp")),
        text=_text(event, "user_query") if "user_query" in event else "",
        origin=record.position,
    )
    if record.key != choice.id.encode():
        refuse("the key of an event of feedback is the digest of its voter, question and asset")
    if choice.time_ms > record.timestamp_ms + MAX_AHEAD_MS:
        ahead_s = (choice.time_ms - record.timestamp_ms) / 1000
        raise BadInputError(
            Reason.FORBIDDEN,
            f"the timestamp of the event of feedback is {ahead_s:,.0f} s after that of its record, more than "
            f"{MAX_AHEAD_MS // 1000:,} s: until then no later choice would replace it",
        )
    return choice


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict):
        refuse(f"the event of feedback has no object {name}")
    return member


def _text(value: Mapping[str, Any], name: str) -> str:
    member = value.get(name)
    if not isinstance(member, str) or not member:
        refuse(f"the event of feedback has no text {name}")
    try:
        member.encode()
    except UnicodeEncodeError:
        refuse(f"{name} of the event of feedback is not Unicode text")
    return member


def _name(value: Mapping[str, Any], name: str) -> str:
    text = _text(value, name)
    if len(text.encode()) > _MAX_NAME_BYTES:
        refuse(f"{name} of the event of feedback has more than {_MAX_NAME_BYTES} bytes")
    return text


def _digest(value: Mapping[str, Any], name: str) -> str:
    text = _text(value, name)
    if len(text) != _DIGEST_CHARS or not set(text) <= set("0123456789abcdef"):
        refuse(f"{name} of the event of feedback is not {_DIGEST_CHARS} hexadecimal digits")
    return text


def _collection(name: str) -> Collection:
    if name not in set(Collection):
        refuse(f"the event of feedback names the collection {name[:80]!r}, which does not exist")
    return Collection(name)


def _action(name: str) -> Action:
    if name not in set(Action):
        refuse(f"action_name {name[:80]!r} of the event of feedback is none of {', '.join(Action)}")
    return Action(name)


def _rank(position: Mapping[str, Any]) -> int:
    rank = position.get("ordinal")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= 1_000_000:
        refuse("position.ordinal of the event of feedback is no rank from 1 on")
    return rank


def _shown(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_SHOWN:
        refuse(f"shown of the event of feedback is no list of at most {MAX_SHOWN} ids")
    return tuple(_digest({"shown": id_}, "shown") for id_ in value)


def _time_ms(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        time_ms = round(time.timestamp() * 1000) if time.tzinfo is not None else -1
    except (ValueError, OverflowError):
        time_ms = -1
    if not 0 <= time_ms <= _LATEST_MS:
        refuse(f"timestamp {text[:80]!r} of the event of feedback is no time of RFC 3339")
    return time_ms


def _vector(text: str) -> Float32:
    """Returns float32[dim], L2-normalised again, as float16 has rounded it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        refuse("the vector of the event of feedback is not base64")
    if not data or len(data) % 2 or len(data) > 2 * _MAX_DIM:
        refuse(f"the vector of the event of feedback does not have 1 to {_MAX_DIM:,} numbers of two bytes")
    vector = np.frombuffer(data, dtype="<f2").astype(np.float32)
    norm = float(np.linalg.norm(vector))
    if not (math.isfinite(norm) and norm > 0):
        refuse("the vector of the event of feedback has no direction")
    return vector / np.float32(norm)
