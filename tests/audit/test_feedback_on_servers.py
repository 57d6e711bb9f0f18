"""Feedback on a real Kafka and a real store, from the request to the click memory, and to its end by a tombstone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.assembly import open_clicks
from penstock.audit import run_feedback_audit
from penstock.broker.base import Message
from penstock.broker.change_messages import change_messages
from penstock.broker.producer import MessageProducer
from penstock.config import FeedbackSettings, Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.questions import question_encoder
from penstock.ingest.feedback.follow import open_lane
from penstock.ingest.feedback.lane import FeedbackLane
from penstock.records import AssetRow, Collection, Field, IndexChange, Outcome, Version
from penstock.serve.app import build_query_plane
from tests.audit.test_servers import DEADLINE_S, servers  # noqa: F401 - a fixture
from tests.serve.conftest import caller
from tests.serve.sample_index import PROFILE, entry, vector

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(300)]


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:  # noqa: F811 - the fixture
    store = servers.store.model_copy(update={"consistency": "Strong"})
    feedback = FeedbackSettings(enabled=True)
    changes = {"data_dir": tmp_path, "profile": PROFILE.name, "store": store, "feedback": feedback}
    return servers.model_copy(update=changes)


def follow(lane: FeedbackLane, condition: Callable[[], bool]) -> None:
    """Follows feedback until the condition holds."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        lane.follow_once()


def test_a_choice_is_remembered_counted_and_forgotten_with_its_asset(settings: Settings) -> None:
    plane = build_query_plane(settings)
    texts = ("a cat on a mat", "bread and butter")
    entries = [
        entry(
            Collection.TEXT,
            text.split()[1],
            text=text,
            vectors={
                Field.PASSAGE: vector("passage.text", text, settings),
                Field.JOINT: vector("joint.text", text, settings),
            },
        )
        for text in texts
    ]
    plane.store.upsert(Collection.TEXT, entries)
    rows = [AssetRow(row.asset, Version(1, 0, 0), Outcome.INDEXED, {Collection.TEXT: 1}, "", 0) for row in entries]
    plane.store.put_asset_rows(rows)
    clicks = open_clicks(settings.store, question_encoder(PROFILE, profile_fingerprints(PROFILE)))
    call = caller(plane)
    with ExitStack() as opened:
        lane = open_lane(settings, opened)
        votes = []
        for user, chosen in (("ann", entries[0]), ("bob", entries[0]), ("ann", entries[1])):
            body = {"question": "a pet", "entry": chosen.id, "client_id": user}
            answer = call("POST", "/v1/feedback", json=body)
            assert answer.status_code == 202, answer.text
            votes.append(answer.json()["vote"])
        producer = MessageProducer(settings.kafka)
        producer.send(Message(settings.feedback.topic, b"k", b"no event")).result(DEADLINE_S)
        follow(lane, lambda: set(votes) == set(clicks.of_ids(votes)) and not run_feedback_audit(settings).unsettled)
        report = run_feedback_audit(settings)
        assert (report.remembered, report.dead_lettered, report.balanced) == (3, 1, True)
        recalled = clicks.recall(vector("passage.text", "a pet", settings), "default", limit=10, timeout_s=20)
        assert sorted(match.choice.asset.key for match in recalled) == ["and", "cat", "cat"]

        deleted = rows[0].asset
        plane.store.put_asset_rows([replace(rows[0], outcome=Outcome.DELETED, counts={})])
        change = IndexChange(deleted.tenant, deleted.topic, deleted.key, rows[0].origin, True, {}, 1)
        for message in change_messages(settings.kafka.changes_topic, [change]):
            producer.send(message).result(DEADLINE_S)
        follow(lane, lambda: set(clicks.of_ids(votes)) == {votes[2]})
        report = run_feedback_audit(settings)
        assert (report.remembered, report.deleted, report.balanced) == (1, 2, True)
        producer.close(DEADLINE_S)
    clicks.close()
    plane.close()
