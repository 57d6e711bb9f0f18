"""Tests of the messages of feedback: what they carry, and how wrong ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.broker.feedback_messages import MAX_BYTES, TYPE, feedback_message, parse_feedback
from penstock.broker.wire import MAX_AHEAD_MS
from penstock.errors import BadInputError, Reason
from penstock.records import Action, Choice, Position, Record
from tests.choices import NOW_MS, choice

TOPIC = "search.feedback"
CHOICE = choice("a grey heron", "heron.txt", action=Action.LIKE, rank=3, shown=("a" * 32, "b" * 32))


def record(of: Choice = CHOICE, **changes: Any) -> Record:
    message = feedback_message(TOPIC, of, query_id="q-1")
    fields = {"key": message.key, "value": message.value, **changes}
    return Record(Position(TOPIC, 2, 7), timestamp_ms=NOW_MS, headers=message.headers, **fields)


def changed(path: str, value: object) -> Record:
    """Returns a record in whose JSON one member has another value; None removes it."""
    document = json.loads(record().value or b"")
    *parents, last = path.split(".")
    part = document
    for name in parents:
        part = part[name]
    part.pop(last) if value is None else part.update({last: value})
    return record(value=json.dumps(document).encode())


def test_a_choice_comes_back_with_the_position_of_its_event() -> None:
    parsed = parse_feedback(record())
    assert parsed == replace(CHOICE, origin=Position(TOPIC, 2, 7))
    assert float(parsed.vector @ CHOICE.vector) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(parsed.vector) == pytest.approx(1, abs=1e-6)


def test_the_event_has_the_fields_of_user_behavior_insights_and_of_a_cloudevent() -> None:
    message = feedback_message(TOPIC, CHOICE, query_id="q-1")
    value, headers = json.loads(message.value or b""), dict(message.headers)
    assert (value["action_name"], value["query_id"], value["client_id"]) == ("like", "q-1", CHOICE.voter)
    assert value["event_attributes"]["object"] == {"object_id": CHOICE.entry_id, "object_id_field": "id"}
    assert value["event_attributes"]["position"] == {"ordinal": 3}
    assert value["timestamp"] == "2026-01-01T00:00:00.000+00:00"
    assert (headers["ce_type"], headers["ce_tenant"]) == (TYPE.encode(), b"default")
    assert message.key == CHOICE.id.encode()


def test_the_words_of_a_question_are_in_the_event_only_where_they_are_kept() -> None:
    without = feedback_message(TOPIC, CHOICE, query_id="")
    assert b"heron" not in (without.value or b"").replace(b"heron.txt", b"")
    assert "user_query" not in json.loads(without.value or b"")
    kept = replace(CHOICE, text="a grey heron")
    assert parse_feedback(record(kept)).text == "a grey heron"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("event_attributes", None),
        ("event_attributes.penstock.asset", "heron"),
        ("event_attributes.penstock.asset.key", ""),
        ("event_attributes.penstock.asset.tenant", "t" * 513),
        ("event_attributes.penstock.collection", "herons"),
        ("event_attributes.penstock.question", "a grey heron"),
        ("event_attributes.penstock.vector", "not base64!"),
        ("event_attributes.penstock.vector", "AAAA"),
        ("event_attributes.penstock.vector", "AHwAfA=="),  # two infinities
        ("event_attributes.penstock.shown", ["x"]),
        ("event_attributes.penstock.shown", ["a" * 32] * 101),
        ("event_attributes.object.object_id", "A" * 32),
        ("event_attributes.position.ordinal", 0),
        ("event_attributes.position.ordinal", True),
        ("action_name", "buy"),
        ("client_id", "ann"),
        ("timestamp", "yesterday"),
        ("timestamp", "2026-01-01T00:00:00"),
        ("user_query", "\ud800"),
    ],
)
def test_a_wrong_event_is_refused_in_words(path: str, value: object) -> None:
    with pytest.raises(BadInputError, match="feedback") as caught:
        parse_feedback(changed(path, value))
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("value", [None, b"[]", b"{", b"x" * (MAX_BYTES + 1)])
def test_what_is_no_event_at_all_is_refused(value: bytes | None) -> None:
    with pytest.raises(BadInputError):
        parse_feedback(record(value=value))


def test_an_event_under_the_key_of_another_vote_is_refused() -> None:
    with pytest.raises(BadInputError, match="key"):
        parse_feedback(record(key=choice("a grey heron", "otter.txt").id.encode()))


def test_a_time_far_ahead_of_the_records_own_is_forbidden() -> None:
    latest = replace(CHOICE, time_ms=NOW_MS + MAX_AHEAD_MS)
    assert parse_feedback(record(latest)).time_ms == latest.time_ms
    with pytest.raises(BadInputError, match="3,600 s after") as caught:
        parse_feedback(record(replace(CHOICE, time_ms=latest.time_ms + 1)))
    assert caught.value.reason is Reason.FORBIDDEN
