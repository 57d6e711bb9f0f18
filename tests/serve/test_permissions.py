"""Checks that every route demands its permission, or is open on purpose."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from penstock.auth import Permission
from penstock.errors import UnavailableError
from penstock.serve.app import create_app
from penstock.serve.authentication import permissions, protect
from penstock.serve.plane import QueryPlane
from tests.serve.conftest import caller
from tests.serve.keyed import key_of, keyed_plane
from tests.serve.sample_index import raising

OPEN = {"/healthz", "/readyz", "/", "/web/{version}/{name}", "/v1/sign-in", "/v1/sign-in/token"}
METHODS = ("GET", "POST", "DELETE")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QueryPlane, dict[str, str]]]:
    keys = {permission.value: key_of([permission]) for permission in Permission}
    keys["operator"] = key_of([Permission.ADMIN]) | {"tenants": ("*",), "labels": ("*",)}
    with keyed_plane(tmp_path_factory.mktemp("keyed"), keys) as keyed_and_texts:
        yield keyed_and_texts


@pytest.fixture
def call(keyed: tuple[QueryPlane, dict[str, str]]) -> Callable[..., httpx.Response]:
    """Returns `call(method, path, key, **options)`."""
    plane, texts = keyed
    send = caller(plane)

    def request(
        method: str, path: str, key: str | None = None, *, headers: Mapping[str, str] | None = None, **options: object
    ) -> httpx.Response:
        credentials = {} if key is None else {"Authorization": f"Bearer {texts[key]}"}
        return send(method, path, headers={**(headers or {}), **credentials}, **options)

    return request


def all_permissions(plane: QueryPlane) -> dict[str, Permission | None]:
    """Returns the permission of every path."""
    return dict(permissions(create_app(plane).routes))


def address(path: str) -> str:
    """Returns a path with values for its parameters, and of a folder that of a file in it."""
    if path == "/static-offline-docs":
        return f"{path}/swagger-ui.css"
    return re.sub(r"\{\w+\}", "0" * 64, path)


def test_only_probes_and_the_page_are_open(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    needed = all_permissions(keyed[0])
    assert {path for path, permission in needed.items() if permission is None} == OPEN
    assert needed["/v1/search"] is Permission.SEARCH
    assert needed["/v1/ask"] is Permission.ASK
    assert needed["/v1/media/{sha256}"] is Permission.MEDIA
    assert needed["/v1/status"] is needed["/docs"] is needed["/openapi.json"] is Permission.STATUS


def test_every_route_is_closed_to_strangers_and_to_all_without_its_permission(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    plane = keyed[0]
    app = create_app(plane)
    send = caller(plane, app)
    checked = 0
    for path, permission in permissions(app.routes):
        if permission is None:
            continue
        wrong = next(other.value for other in Permission if other not in (permission, Permission.ADMIN))
        for method in METHODS:
            stranger = send(method, address(path), content=b"{")
            if stranger.status_code in (404, 405):
                continue
            checked += 1
            assert stranger.status_code == 401, path
            assert stranger.headers["www-authenticate"].startswith("Bearer"), path
            key = keyed[1][wrong]
            other = send(method, address(path), content=b"{", headers={"Authorization": f"Bearer {key}"})
            assert other.status_code == 403, path
    assert checked > 20


def test_a_route_without_a_permission_ends_the_start() -> None:
    app = FastAPI()
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> str:
        return "open by mistake"

    app.include_router(router)
    with pytest.raises(TypeError, match="/forgotten"):
        protect(app.routes, Permission.STATUS)


def test_a_permission_opens_its_routes_and_admin_all(call: Callable[..., httpx.Response]) -> None:
    assert call("POST", "/v1/search", "search", json={"text": "dog"}).status_code == 200
    assert call("GET", "/v1/models", "ask").status_code == 200
    assert call("GET", "/v1/status", "status").status_code == 200
    assert call("GET", "/docs", "status").status_code == 200
    for path in ("/v1/status", "/v1/models", "/docs"):
        assert call("GET", path, "admin").status_code == 200


def test_readiness_gives_its_reasons_only_with_the_permission(call: Callable[..., httpx.Response]) -> None:
    assert call("GET", "/readyz").json() == {"ready": True, "checks": {}}
    assert call("GET", "/readyz", "search").json()["checks"] == {}
    assert call("GET", "/readyz", "status").json()["checks"].keys() == {"store", "encoders", "disk"}


def test_counters_and_reasons_that_all_tenants_share_are_for_callers_that_read_all(
    keyed: tuple[QueryPlane, dict[str, str]], call: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = ("assets", "searches", "searches_failed", "searches_partial", "store_calls", "vector_cache")
    status, whole = (call("GET", "/v1/status", key).json() for key in ("status", "operator"))
    assert {status[name] for name in counters} == {None}
    assert None not in [whole[name] for name in counters]
    monkeypatch.setattr(keyed[0].status, "_checked", None)
    monkeypatch.setattr(keyed[0].store, "ping", raising(UnavailableError("http://milvus.internal does not answer")))
    for path in ("/readyz", "/v1/status"):
        assert call("GET", path, "status").json()["checks"]["store"] == "failed"
        assert "milvus.internal" in call("GET", path, "operator").json()["checks"]["store"]


def test_the_size_of_the_index_is_for_those_who_read_all_of_it(call: Callable[..., httpx.Response]) -> None:
    own = call("GET", "/v1/status", "status").json()
    assert (own["entries"], own["assets"]) == ({}, None)
    everything = call("GET", "/v1/status", "operator").json()
    assert everything["entries"]["text"] == 3
    assert everything["assets"] is not None


def test_the_schema_says_which_operations_need_which_permission(call: Callable[..., httpx.Response]) -> None:
    document = call("GET", "/openapi.json", "status").json()
    assert document["components"]["securitySchemes"]["credentials"]["scheme"] == "bearer"
    search = document["paths"]["/v1/search"]["post"]
    assert (search["security"], search["x-permission"]) == ([{"credentials": []}], "search")
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert {"401", "403"} <= document["paths"]["/v1/status"]["get"]["responses"].keys()


def test_a_tool_of_a_model_has_the_permissions_of_its_caller(call: Callable[..., httpx.Response]) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: it is in the group dev")
    headers = {"Accept": "application/json, text/event-stream", "Host": "localhost"}

    def tool(key: str | None, name: str, arguments: dict[str, object]) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        return call("POST", "/mcp", key, json=body, headers=headers)

    assert tool(None, "search", {"query": "dog"}).status_code == 401
    assert tool("media", "search", {"query": "dog"}).status_code == 403
    searched = tool("search", "search", {"query": "dog"}).json()["result"]
    assert "a dog in the fog" in json.dumps(searched)
    reported = tool("search", "ask", {"question": "where is the dog?"}).json()["result"]
    assert reported["isError"]
    assert "permission ask" in json.dumps(reported)
