"""Requests beyond the limits of their caller or their tenant are refused, and those of others are not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message

from penstock.auth import Permission
from penstock.config import LimitsSettings
from penstock.observability import metrics
from penstock.serve.app import create_app
from penstock.serve.limits.admission import Admission, Admissions, Kind, LimitedError, open_admissions
from penstock.serve.limits.rates import Bucket, Rates, RateUsage
from penstock.serve.plane import QueryPlane
from tests.counted import counted
from tests.serve.keyed import keyed_plane
from tests.serve.sample_index import IMAGES

QUESTION = {"role": "user", "content": "what is on a mat?"}
READS = (Permission.SEARCH, Permission.MEDIA, Permission.ASK)
KEYS = {
    "one": {"tenants": ("default",), "permissions": READS},
    "two": {"tenants": ("default",), "permissions": READS},
    "several": {"tenants": ("default", "acme"), "permissions": READS},
    "other": {"tenants": ("acme",), "permissions": READS},
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QueryPlane, dict[str, str]]]:
    with keyed_plane(tmp_path_factory.mktemp("keyed"), KEYS) as plane_and_texts:
        yield plane_and_texts


class Caller:
    """Sends requests to a plane with limits, in one event loop."""

    def __init__(self, keyed: tuple[QueryPlane, dict[str, str]], limits: dict[str, Any]) -> None:
        plane, self._texts = keyed
        self.admissions = open_admissions(LimitsSettings(**{"burst_s": 1000, **limits}))
        self._app = create_app(replace(plane, admissions=self.admissions))

    def run(self, calls: Callable[[Caller], Coroutine[Any, Any, Any]]) -> Any:
        async def within() -> Any:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as self._client:
                return await calls(self)

        return asyncio.run(within())

    async def search(self, key: str, **body: Any) -> httpx.Response:
        return await self.post("/v1/search", key, **{"text": "a cat on a mat", "deadline_ms": 60_000, **body})

    async def post(self, path: str, key: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._texts[key]}"}
        return await self._client.post(path, json=body, headers=headers)

    async def tool(self, key: str, method: str, **params: Any) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {self._texts[key]}",
            "Accept": "application/json, text/event-stream",
            "Host": "localhost",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self._client.post("/mcp", json=body, headers=headers)

    async def sends_nothing(self, path: str, key: str) -> int:
        """Returns the status for a request whose body never comes."""
        credentials = f"Bearer {self._texts[key]}".encode()
        headers = [(b"host", b"penstock"), (b"authorization", credentials), (b"content-length", b"10")]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("the body is read")

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app({**scope, "http_version": "1.1", "scheme": "http", "server": ("penstock", 80)}, receive, send)
        return int(sent[0]["status"])

    async def get(self, path: str, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {self._texts[key]}"}
        return await self._client.get(path, headers=headers)


def statuses(*answers: httpx.Response) -> list[int]:
    return [answer.status_code for answer in answers]


def test_a_caller_beyond_its_rate_gets_429_with_the_time_to_wait_and_others_are_answered(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    limited_before = counted(metrics.REQUESTS_LIMITED, scope="caller", kind="requests")

    async def calls(caller: Caller) -> None:
        assert statuses(*[await caller.search("one") for _ in range(3)]) == [200, 200, 200]
        refused = await caller.search("one")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert "limits.caller.requests_per_s" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 1000
        assert refused.headers["ratelimit-policy"] == '"caller-requests";q=3;w=1000'
        assert refused.headers["ratelimit"].startswith('"caller-requests";r=0;t=')
        assert (await caller.search("two")).status_code == 200
        assert (await caller.get("/healthz")).status_code == 200

    Caller(keyed, {"caller": {"requests_per_s": 0.003}}).run(calls)
    assert counted(metrics.REQUESTS_LIMITED, scope="caller", kind="requests") == limited_before + 1


def test_the_callers_of_a_tenant_share_its_rate_and_another_tenant_has_its_own(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    async def calls(caller: Caller) -> None:
        assert statuses(await caller.search("one"), await caller.search("two")) == [200, 200]
        refused = await caller.search("two")
        assert refused.status_code == 429
        assert "limits.tenant.requests_per_s" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1

    Caller(keyed, {"tenant": {"requests_per_s": 0.002}}).run(calls)


def test_the_body_of_a_caller_of_one_tenant_is_not_read_beyond_the_limits_of_the_tenant(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    async def calls(caller: Caller) -> None:
        assert (await caller.search("one")).status_code == 200
        for path in ("/v1/search", "/v1/ask", "/v1/chat/completions", "/v1/check", "/v1/watches"):
            assert await caller.sends_nothing(path, "two") == 429

    Caller(keyed, {"tenant": {"requests_per_s": 0.001}}).run(calls)


def test_images_are_not_decoded_beyond_the_limits_of_the_tenant_that_a_body_names(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    search = {"tenant": "default", "image": "no base64"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,no base64"}}
    messages = [{"role": "user", "content": [image]}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/search": search,
        "/v1/ask": search,
        "/v1/chat/completions": {"model": "penstock", "messages": messages, "penstock": {"tenant": "default"}},
        "/v1/watches": {"name": "watched", **search},
    }

    async def calls(caller: Caller) -> None:
        for path, body in bodies.items():
            answer = await caller.post(path, "several", **body)
            assert answer.status_code in {400, 422}, (path, answer.text)
            assert "base64" in answer.text
        for path, body in bodies.items():
            answer = await caller.post(path, "several", **body)
            assert answer.status_code == 429, (path, answer.text)
            assert "limits.tenant.requests_per_s" in answer.json()["detail"]
        assert (await caller.search("several", tenant="acme")).status_code == 200

    Caller(keyed, {"tenant": {"requests_per_s": 0.004}}).run(calls)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", {"text": "a cat", "tenant": "default"}),
        ("/v1/ask", {"question": "what is on a mat?", "tenant": "default"}),
        ("/v1/chat/completions", {"messages": [QUESTION], "penstock": {"tenant": "default"}}),
    ],
)
def test_a_body_is_not_checked_beyond_the_limits_of_the_tenant_that_it_names(
    keyed: tuple[QueryPlane, dict[str, str]], path: str, body: dict[str, Any]
) -> None:
    async def calls(caller: Caller) -> None:
        assert statuses(*[await caller.post(path, "several", **body) for _ in range(2)]) == [200, 200]  # counted once
        invalid = {**body, "limit": "ten", "modalities": 7, "max_sources": "many", "stream": "no"}
        assert (await caller.post(path, "several", **invalid)).status_code == 429

    Caller(keyed, {"tenant": {"requests_per_s": 0.002}}).run(calls)


def test_a_body_that_names_no_tenant_of_its_caller_is_left_to_the_route(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    async def calls(caller: Caller) -> None:
        assert (await caller.search("several", tenant="default")).status_code == 200
        assert (await caller.search("several", tenant="unknown")).status_code == 403
        assert (await caller.search("several", tenant=7)).status_code == 422
        assert (await caller.search("several")).status_code == 400
        assert (await caller.search("several", tenant="acme")).status_code == 200

    Caller(keyed, {"tenant": {"requests_per_s": 0.001}}).run(calls)


def test_calls_of_tools_are_requests_of_their_caller(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: it is in the group dev")

    async def calls(caller: Caller) -> None:
        assert statuses(*[await caller.tool("one", "tools/list") for _ in range(3)]) == [200, 200, 429]
        assert (await caller.tool("two", "tools/list")).status_code == 200

    Caller(keyed, {"caller": {"requests_per_s": 0.002}}).run(calls)


def test_a_call_of_a_tool_and_the_requests_that_it_sends_are_in_progress_once(
    keyed: tuple[QueryPlane, dict[str, str]],
) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed: it is in the group dev")

    async def calls(caller: Caller) -> None:
        result = await caller.tool("one", "tools/call", name="search", arguments={"query": "a cat on a mat"})
        assert result.status_code == 200
        assert not result.json()["result"].get("isError"), result.text
        assert not caller.admissions.in_progress
        assert caller.admissions.rates.bucket(0.005).burst == 5
        # The call has used one of the five requests of the bucket, and its search another.
        assert statuses(*[await caller.search("one") for _ in range(4)]) == [200, 200, 200, 429]

    limits = {"max_requests": 1, "requests_per_s": 0.005}
    Caller(keyed, {"caller": limits, "tenant": {"max_requests": 1}}).run(calls)


def test_images_and_answers_have_rates_of_their_own(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    image = base64.b64encode(IMAGES["noon"]).decode()

    async def calls(caller: Caller) -> None:
        assert statuses(
            await caller.search("one", image=image),
            await caller.search("one", image=image),
            await caller.search("one"),
            await caller.post("/v1/ask", "one", question="where is the cat?"),
            await caller.post("/v1/ask", "one", question="where is the cat?"),
            await caller.search("one"),
        ) == [200, 429, 200, 200, 429, 200]

    Caller(keyed, {"caller": {"images_per_s": 0.001, "answers_per_s": 0.001}}).run(calls)


def test_links_count_for_their_tenant_and_need_no_caller(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    image = base64.b64encode(IMAGES["noon"]).decode()

    async def calls(caller: Caller) -> None:
        answer = await caller.search("one", image=image, modalities=["image"], limit=1)
        path = answer.json()["hits"][0]["media_url"]
        assert statuses(await caller.get(path), await caller.get(path)) == [200, 429]

    Caller(keyed, {"tenant": {"requests_per_s": 0.002}, "caller": {"requests_per_s": 0.001}}).run(calls)


def test_requests_in_progress_are_limited_and_end_with_their_answers(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    async def calls(caller: Caller) -> None:
        together = await asyncio.gather(*(caller.search("one") for _ in range(6)), caller.search("two"))
        assert sorted(statuses(*together[:6])) == [200, 200, 429, 429, 429, 429]
        assert together[6].status_code == 200
        refused = next(answer for answer in together if answer.status_code == 429)
        assert "limits.caller.max_requests" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        assert (await caller.search("one")).status_code == 200
        assert not caller.admissions.in_progress

    Caller(keyed, {"caller": {"max_requests": 2}}).run(calls)


def test_a_plane_without_limits_shows_none(keyed: tuple[QueryPlane, dict[str, str]]) -> None:
    async def calls(caller: Caller) -> None:
        answer = await caller.search("one")
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("ratelimit")]

    Caller(keyed, {}).run(calls)


def test_a_request_uses_each_limit_once_and_none_after_its_end() -> None:
    admissions = open_admissions(LimitsSettings(burst_s=1000, caller={"requests_per_s": 0.002, "max_requests": 1}))

    async def use() -> None:
        admission = Admission(admissions, "key:1")
        for _ in range(5):
            await admission.admit("acme", [Kind.REQUESTS])
        assert admission.usages["caller-requests"].remaining == 1
        assert admissions.in_progress == {"caller:requests:key:1": 1}
        admission.end()
        assert not admissions.in_progress
        await admission.admit("acme", list(Kind))
        assert not admissions.in_progress

    asyncio.run(use())


def test_what_was_held_before_a_refusal_is_given_back() -> None:
    admissions = open_admissions(LimitsSettings(burst_s=1000, caller={"max_requests": 5}, tenant={"max_requests": 1}))

    async def use() -> None:
        first, second = Admission(admissions, "key:1"), Admission(admissions, "key:2")
        await first.admit("acme", [Kind.REQUESTS])
        with pytest.raises(LimitedError, match=r"limits\.tenant\.max_requests"):
            await second.admit("acme", [Kind.REQUESTS])
        second.end()
        assert admissions.in_progress == {"caller:requests:key:1": 1, "tenant:requests:acme": 1}

    asyncio.run(use())


class SlowRates(Rates):
    """Rates that answer once they may, as those that a Redis keeps."""

    def __init__(self, *, admitted: bool) -> None:
        super().__init__(10, "")
        self.may_answer = asyncio.Event()
        self._usage = RateUsage(admitted, Bucket(100.0, 1000), 999, 1.0, 0.0)

    async def use(self, name: str, per_s: float) -> RateUsage:
        await self.may_answer.wait()
        return self._usage


def test_what_is_in_progress_is_counted_before_the_wait_for_a_rate() -> None:
    settings = LimitsSettings(tenant={"max_requests": 2, "requests_per_s": 100})

    async def use() -> None:
        rates = SlowRates(admitted=True)
        admissions = Admissions(settings, rates)
        requests = [Admission(admissions, f"key:{number}") for number in range(20)]
        admitting = [asyncio.create_task(request.admit("acme", [Kind.REQUESTS])) for request in requests]
        await asyncio.sleep(0)
        rates.may_answer.set()
        results = await asyncio.gather(*admitting, return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 2 + [LimitedError] * 18
        assert admissions.in_progress == {"tenant:requests:acme": 2}
        for request in requests:
            request.end()
        assert not admissions.in_progress

    asyncio.run(use())


def test_a_request_beyond_its_rate_is_not_in_progress() -> None:
    async def use() -> None:
        rates = SlowRates(admitted=False)
        admissions = Admissions(LimitsSettings(caller={"max_requests": 2, "requests_per_s": 1}), rates)
        rates.may_answer.set()
        with pytest.raises(LimitedError):
            await Admission(admissions, "key:1").admit("acme", [Kind.REQUESTS])
        assert not admissions.in_progress

    asyncio.run(use())


def test_a_request_that_ends_while_it_waits_for_a_rate_holds_nothing() -> None:
    settings = LimitsSettings(
        caller={"max_requests": 2, "requests_per_s": 1, "max_answers": 2}, tenant={"max_requests": 2}
    )

    async def use() -> None:
        rates = SlowRates(admitted=True)
        admissions = Admissions(settings, rates)
        request = Admission(admissions, "key:1")
        admitting = asyncio.create_task(request.admit("acme", [Kind.REQUESTS, Kind.ANSWERS]))
        await asyncio.sleep(0)
        assert admissions.in_progress == {"caller:requests:key:1": 1}
        request.end()
        rates.may_answer.set()
        await admitting
        assert not admissions.in_progress

    asyncio.run(use())


def test_admissions_without_limits_know_it() -> None:
    assert open_admissions(LimitsSettings()).is_unlimited
    assert not open_admissions(LimitsSettings(tenant={"max_voice": 1})).is_unlimited
    assert isinstance(open_admissions(LimitsSettings()), Admissions)
