"""Sends every route what `/openapi.json` allows, and what it does not, and compares the answers with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS

from penstock.auth import Permission
from penstock.auth.keys import ALL, new_key, write_keys
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.config import Settings
from penstock.query.watches.registry import WatchRegistry
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.events import EventService
from penstock.serve.use_cases.watches import WatchService
from penstock.store.memory import MemoryStore
from tests.auth.test_keys import api_key
from tests.serve.routes.test_feedback import feedback_broker, taking
from tests.serve.routes.test_watches import TOPIC, Accepting
from tests.serve.sample_index import PROFILE, fill

# One that may do everything everywhere, one of a single tenant, one of several, one that may do nothing.
CALLERS: Mapping[str, Mapping[str, Any]] = {
    "ops": {"tenants": (ALL,), "labels": (ALL,), "permissions": (Permission.ADMIN,)},
    "one": {"permissions": (Permission.SEARCH, Permission.ASK, Permission.MEDIA, Permission.STATUS)},
    "several": {"tenants": ("acme", "default"), "permissions": (Permission.SEARCH, Permission.ASK, Permission.MEDIA)},
    "none": {"permissions": ()},
}
REFUSED = {401, 405}  # also a method that the route does not have needs no credentials
# A stream without an end; the tests of its route read it.
_ENDLESS = "GET /v1/live"
# A schema cannot say which filters, ids, media and cursors are valid: such requests are rightly refused.
_NOT_CHECKED = ("positive_data_acceptance",)


@dataclass(frozen=True)
class Served:
    """The operations of an application, and the credentials of the callers that it knows."""

    operations: dict[str, APIOperation]
    keys: Mapping[str, str]


@pytest.fixture
def operations() -> Iterator[dict[str, APIOperation]]:
    """Yields the operations of an application that needs no credentials, over a small index."""
    with _served("none") as served:
        yield served.operations


@pytest.fixture
def keyed() -> Iterator[Served]:
    """Yields the operations of an application that needs API keys, over a small index."""
    with _served("keys") as served:
        yield served


@contextmanager
def _served(mode: str) -> Iterator[Served]:
    """Yields an application with watches on a broker in memory.

    For one test: schemathesis ends the application at the end of each.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-openapi-"))
    keys = {name: new_key(name) for name in CALLERS}
    write_keys(folder / "keys.json", tuple(api_key(keys[name], **grant) for name, grant in CALLERS.items()))
    configured = Settings(
        profile=PROFILE.name,
        data_dir=folder,
        auth={"mode": mode},  # type: ignore[arg-type]
        query={"max_image_bytes": 4096, "max_audio_bytes": 100_000},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    plane = build_query_plane(configured, store=MemoryStore())
    fill(plane)
    broker = MemoryBroker()
    for topic in (TOPIC, "media.text", "media.image"):
        broker.create_topic(topic)
    registry = WatchRegistry(MemoryTail(broker, TOPIC, from_start=True), TOPIC, broker.producer, max_watches=1_000)
    registry.start()
    assert registry.wait_until_ready(10)
    events = EventService(configured, broker.producer)
    feedback = taking(plane, feedback_broker()).feedback
    app = create_app(replace(plane, watches=_watches(plane, registry), events=events, feedback=feedback))
    yield Served({operation.label: operation for operation in _read(app, keys["ops"])}, keys)
    registry.close()
    plane.close()
    shutil.rmtree(folder)


def _watches(plane: QueryPlane, registry: WatchRegistry) -> WatchService:
    return WatchService(
        registry,
        Accepting(),  # type: ignore[arg-type]
        matches_topic="penstock.matches",
        wall_ms=lambda: 0,
    )


def _read(app: FastAPI, key: str) -> Iterator[APIOperation]:
    """Yields the operations that the document describes, which itself needs the key of an operator."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Authorization": f"Bearer {key}"})
    # Credentials are those of `send`: a request that is invalid for lack of them alone would be valid with them.
    schema.config.generation.update(with_security_parameters=False)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.label != _ENDLESS:
            yield operation


def send(
    operations: dict[str, APIOperation],
    *,
    examples: int,
    credentials: str | None = None,
    expected: set[int] | None = None,
) -> dict[str, int]:
    """Sends each operation its documented examples, and random valid and invalid requests.

    Args:
        operations: by their labels.
        examples: requests of each kind.
        credentials: of the caller.
        expected: statuses that the answers may have; None: those that the document allows.

    Returns:
        the number of requests by operation.
    """
    return {label: sum(_sent(operation, examples, credentials, expected)) for label, operation in operations.items()}


def _sent(operation: APIOperation, examples: int, credentials: str | None, expected: set[int] | None) -> Iterator[int]:
    """Yields the number of requests of each kind."""
    excluded = [CHECKS.get_one(name) for name in _NOT_CHECKED]
    headers = {} if credentials is None else {"Authorization": f"Bearer {credentials}"}
    modes = [operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    for strategy in [*operation.get_strategies_from_examples(), *modes]:
        sent: list[str] = []

        @seed(1)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=strategy)
        def request(case: Case, sent: list[str]) -> None:
            sent.append(case.id)
            response = case.call_and_validate(excluded_checks=excluded, headers=headers)
            assert expected is None or response.status_code in expected, f"{operation.label}: {response.status_code}"

        try:
            request(sent=sent)
        except Unsatisfiable:  # an operation without parameters takes no invalid request
            continue
        yield len(sent)


def test_every_route_answers_as_it_is_described(operations: dict[str, APIOperation]) -> None:
    counts = send(operations, examples=3)
    assert {"POST /v1/search", "POST /v1/ask", "GET /v1/ask/{answer_id}", "POST /v1/chat/completions"} <= set(counts)
    assert min(counts.values()) > 0


def protected(served: Served) -> dict[str, APIOperation]:
    """Returns the operations that need credentials, as the document says."""
    return {
        label: operation for label, operation in served.operations.items() if operation.definition.raw.get("security")
    }


def test_every_protected_route_refuses_callers_without_credentials(keyed: Served) -> None:
    assert min(send(protected(keyed), examples=1, expected=REFUSED).values()) > 0


def test_every_route_answers_a_caller_with_credentials_as_it_is_described(keyed: Served) -> None:
    assert {"POST /v1/search", "GET /v1/media/{sha256}"} <= protected(keyed).keys()
    assert min(send(keyed.operations, examples=1, credentials=keyed.keys["one"]).values()) > 0


@pytest.mark.exhaustive
@pytest.mark.timeout(3_600)
def test_every_route_answers_many_requests_with_credentials_as_it_is_described(keyed: Served) -> None:
    for unknown in (new_key("ops"), "pk_ops_short", "e30.e30.x"):  # a key that the file has not, none, a token
        send(protected(keyed), examples=30, credentials=unknown, expected=REFUSED)
    for key in (None, *keyed.keys.values()):
        send(keyed.operations, examples=80, credentials=key)


@pytest.mark.exhaustive
@pytest.mark.timeout(1_800)
def test_every_route_answers_many_requests_as_it_is_described(operations: dict[str, APIOperation]) -> None:
    send(operations, examples=250)
