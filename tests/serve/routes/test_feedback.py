"""`POST /v1/feedback`, over a broker in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.auth import Permission
from penstock.broker.feedback_messages import parse_feedback
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import FeedbackSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.questions import question_encoder
from penstock.records import Action, Choice, Collection, Record
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.feedback import FeedbackService, QuestionEncoder
from tests.serve.conftest import caller
from tests.serve.keyed import key_of, keyed_plane
from tests.serve.sample_index import PROBLEM, PROFILE, entry

TOPIC = "search.feedback"
ENCODER = question_encoder(PROFILE, profile_fingerprints(PROFILE))
CAT = entry(Collection.TEXT, "cat").id
DOG = entry(Collection.TEXT, "dog", tenant="acme").id
BODY = {"question": "a pet  on the MAT", "entry": CAT, "rank": 2, "shown": [CAT]}


def feedback_broker() -> MemoryBroker:
    """Returns a broker with the topic of feedback."""
    broker = MemoryBroker()
    broker.create_topic(TOPIC)
    return broker


@pytest.fixture
def broker() -> MemoryBroker:
    return feedback_broker()


def taking(plane: QueryPlane, broker: MemoryBroker, **settings: Any) -> QueryPlane:
    """Returns the plane with feedback, which goes to the broker."""
    service = FeedbackService(
        broker.producer,
        QuestionEncoder(plane.encoder, "passage.text", ENCODER),
        plane.entries,
        FeedbackSettings(enabled=True, **settings),
        wall_ms=lambda: 1_767_225_600_000,
    )
    return replace(plane, feedback=service)


@pytest.fixture
def give(plane: QueryPlane, broker: MemoryBroker) -> Callable[..., httpx.Response]:
    call = caller(taking(plane, broker))
    return lambda **changes: call("POST", "/v1/feedback", json={**BODY, **changes})


def events(broker: MemoryBroker) -> list[Choice]:
    records: list[Record] = list(broker.records(TOPIC))
    return [parse_feedback(record) for record in records]


def test_a_choice_is_in_kafka_when_the_answer_comes(give: Callable[..., httpx.Response], broker: MemoryBroker) -> None:
    answer = give()
    assert answer.status_code == 202
    (choice,) = events(broker)
    assert answer.json() == {"vote": choice.id, "position": {"topic": TOPIC, "partition": 0, "offset": 0}}
    assert (choice.entry_id, choice.asset.key, choice.rank, choice.action) == (CAT, "cat", 2, Action.CLICK)
    assert (choice.encoder, choice.shown, choice.text) == (ENCODER, (CAT,), "")
    assert b"pet" not in (broker.records(TOPIC)[0].value or b"")


def test_the_words_of_the_question_are_kept_only_where_the_setting_says_so(
    plane: QueryPlane, broker: MemoryBroker
) -> None:
    call = caller(taking(plane, broker, keep_questions=True))
    assert call("POST", "/v1/feedback", json=BODY).status_code == 202
    assert events(broker)[0].text == "a pet on the MAT"


def test_the_same_caller_has_one_vote_for_a_question_and_an_asset(
    give: Callable[..., httpx.Response], broker: MemoryBroker
) -> None:
    first, again = give().json()["vote"], give(question="A PET on the mat", action="dislike", rank=7).json()["vote"]
    other_question = give(question="a cat").json()["vote"]
    another_user = give(client_id="somebody else").json()["vote"]
    assert first == again
    assert len({first, other_question, another_user}) == 3


def test_a_client_id_tells_users_of_a_key_apart_only_where_it_is_trusted(
    plane: QueryPlane, broker: MemoryBroker
) -> None:
    def voters(**settings: Any) -> set[str]:
        service = taking(plane, broker, **settings).feedback
        return {service._voter("acme", "key:site", client_id) for client_id in ("ann", "bob")}

    assert len(voters()) == 1
    assert len(voters(trust_client_ids=True)) == 2


def test_nobody_chooses_what_it_may_not_read(give: Callable[..., httpx.Response], broker: MemoryBroker) -> None:
    others, absent = give(entry=DOG), give(entry="0" * 32)
    assert (others.status_code, absent.status_code) == (404, 404)
    assert others.json()["detail"].replace(DOG, "") == absent.json()["detail"].replace("0" * 32, "")
    assert give(entry=DOG, tenant="acme").status_code == 202
    assert [choice.asset.tenant for choice in events(broker)] == ["acme"]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"question": ""}, 422, "/question"),
        ({"question": "\u200b"}, 400, "/question"),
        ({"entry": "cat"}, 422, "/entry"),
        ({"action": "buy"}, 422, "/action"),
        ({"rank": 0}, 422, "/rank"),
        ({"shown": ["0" * 32] * 101}, 422, "/shown"),
        ({"mood": 1}, 422, "/mood"),
    ],
)
def test_a_wrong_request_points_at_the_fault(
    give: Callable[..., httpx.Response], broker: MemoryBroker, change: dict[str, Any], status: int, field: str
) -> None:
    answer = give(**change)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["field"].startswith(field)
    assert events(broker) == []


def test_without_an_acknowledgement_the_answer_is_503(plane: QueryPlane) -> None:
    broker = MemoryBroker()  # the topic does not exist
    answer = caller(taking(plane, broker))("POST", "/v1/feedback", json=BODY)
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)


def test_where_feedback_is_off_the_answer_says_which_setting(plane: QueryPlane) -> None:
    answer = caller(plane)("POST", "/v1/feedback", json=BODY)
    assert answer.status_code == 503
    assert "feedback.enabled" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", {"text": "a cat"}),
        ("/v1/ask", {"question": "What is on a mat?"}),
        ("/v1/ask", {"question": "What is on a mat?", "stream": True}),
    ],
)
def test_an_answer_says_whether_choices_are_taken(
    path: str, body: dict[str, Any], plane: QueryPlane, broker: MemoryBroker
) -> None:
    assert "Penstock-Feedback" not in caller(plane)("POST", path, json=body).headers
    answer = caller(taking(plane, broker))("POST", path, json=body)
    assert answer.headers["Penstock-Feedback"] == "taken"


def test_who_may_not_give_feedback_is_not_told_that_it_is_taken(broker: MemoryBroker, tmp_path: Path) -> None:
    permissions = {"reader": [Permission.SEARCH], "judge": [Permission.SEARCH, Permission.FEEDBACK]}
    with keyed_plane(tmp_path, {name: key_of(granted) for name, granted in permissions.items()}) as (plane, texts):
        call = caller(taking(plane, broker))
        taken = {
            name: "Penstock-Feedback" in call("POST", "/v1/search", json={"text": "a dog"}, headers=bearer(key)).headers
            for name, key in texts.items()
        }
        refused = call("POST", "/v1/feedback", json=BODY, headers=bearer(texts["reader"]))
    assert taken == {"reader": False, "judge": True}
    assert refused.status_code == 403


def bearer(key: str) -> dict[str, str]:
    """Returns the header of a credential."""
    return {"Authorization": f"Bearer {key}"}
