"""Bounds bodies in front of the replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from starlette.types import Message, Receive, Scope, Send

from penstock.serve.middleware.upload_limits import UploadGuard, UploadLimits

LIMITS = UploadLimits(
    max_body_bytes=1_000,
    max_held_bytes=2_500,
    max_unfinished=5,
    small_bytes=10,
    max_small_held_bytes=30,
    max_small_unfinished=5,
    first_s=0.2,
    min_bytes_per_s=1e9,
)
PATIENT = replace(LIMITS, first_s=60)


class Client:
    """One request, whose body arrives in pieces."""

    def __init__(
        self, guard: UploadGuard, headers: Mapping[str, str] | None = None, *, address: str = "192.0.2.1"
    ) -> None:
        self.pieces: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.answered = asyncio.Event()
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/search",
            "client": (address, 1),
            "headers": [
                (name.encode(), value.encode()) for name, value in (headers or {"transfer-encoding": "chunked"}).items()
            ],
        }

        async def send(message: Message) -> None:
            self.sent.append(message)
            self.answered.set()

        self.task = asyncio.create_task(guard(scope, self.pieces.get, send))

    def send(self, body: bytes, *, more: bool = False) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def answer(self) -> tuple[int, Mapping[bytes, bytes]]:
        await self.task
        return self.sent[0]["status"], dict(self.sent[0]["headers"])


class Application:
    """Reads the body, and answers once it may."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.calls = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        self.calls.release()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.may_end.wait()
        assert (await receive())["type"] == "http.disconnect"


def test_a_body_is_handed_on_whole_and_later_messages_after_it() -> None:
    async def scenario() -> None:
        application = Application()
        client = Client(UploadGuard(application, limits=LIMITS))
        client.send(b"ab", more=True)
        client.send(b"cd")
        application.may_answer.set()
        application.may_end.set()
        client.pieces.put_nowait({"type": "http.disconnect"})
        assert (await client.answer())[0] == 200
        assert application.bodies == [b"abcd"]

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [{"content-length": "1001"}, {"transfer-encoding": "chunked"}])
def test_a_body_over_the_limit_is_refused_by_its_announced_or_real_length(headers: Mapping[str, str]) -> None:
    async def scenario() -> None:
        client = Client(UploadGuard(Application(), limits=LIMITS), headers)
        client.send(bytes(1_001), more=True)
        status, answered = await client.answer()
        assert (status, answered[b"connection"]) == (413, b"close")

    asyncio.run(scenario())


def test_a_body_that_comes_slowly_ends_in_time() -> None:
    async def scenario() -> None:
        application = Application()
        client = Client(UploadGuard(application, limits=LIMITS))
        client.send(b"a", more=True)
        status, answered = await client.answer()
        assert (status, answered[b"connection"]) == (408, b"close")
        assert application.bodies == []

    asyncio.run(scenario())


def test_the_bytes_of_all_bodies_are_bounded_until_a_replica_answers() -> None:
    async def scenario() -> None:
        application = Application()
        guard = UploadGuard(application, limits=LIMITS)
        first = Client(guard)
        first.send(bytes(900))
        await application.calls.acquire()
        second = Client(guard)
        second.send(bytes(900))
        status, answered = await second.answer()
        assert (status, answered[b"retry-after"]) == (429, b"2")
        application.may_answer.set()
        await first.answered.wait()
        third = Client(guard)
        third.send(bytes(900))
        await application.calls.acquire()
        application.may_end.set()
        for client in (first, third):
            client.pieces.put_nowait({"type": "http.disconnect"})
            assert (await client.answer())[0] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [{"content-length": "5"}, {"content-length": "900"}, None])
def test_a_client_leaves_as_many_unfinished_bodies_to_others_as_it_has(headers: Mapping[str, str] | None) -> None:
    async def scenario() -> None:
        guard = UploadGuard(Application(), limits=PATIENT)
        idle = [Client(guard, headers) for _ in range(3)]
        assert (await idle[2].answer())[0] == 429
        others = [Client(guard, headers, address=f"192.0.2.{number}") for number in (2, 2, 3)]
        assert (await others[1].answer())[0] == 429
        for client in (*idle[:2], others[0], others[2]):
            client.pieces.put_nowait({"type": "http.disconnect"})
            await client.task
            assert client.sent == []
        assert_nothing_is_held(guard)

    asyncio.run(scenario())


@pytest.mark.parametrize(("size", "count"), [(900, 1), (5, 3)])
def test_a_client_leaves_as_many_bytes_to_others_as_it_holds(size: int, count: int) -> None:
    async def scenario() -> None:
        application = Application()
        guard = UploadGuard(application, limits=LIMITS)

        def sends(address: str) -> Client:
            client = Client(guard, {"content-length": str(size)}, address=address)
            client.send(bytes(size))
            return client

        first = []
        for _ in range(count):
            first.append(sends("192.0.2.1"))
            await application.calls.acquire()
        status, answered = await sends("192.0.2.1").answer()
        assert (status, answered[b"retry-after"], answered[b"connection"]) == (429, b"2", b"close")
        other = Client(guard, {"content-length": str(size)}, address="192.0.2.2")
        other.send(bytes(size // 2))
        await application.calls.acquire()
        application.may_answer.set()
        application.may_end.set()
        for client in (*first, other):
            client.pieces.put_nowait({"type": "http.disconnect"})
            assert (await client.answer())[0] == 200
        assert_nothing_is_held(guard)

    asyncio.run(scenario())


def test_large_bodies_do_not_hold_small_ones_up() -> None:
    async def scenario() -> None:
        application = Application()
        application.may_answer.set()
        guard = UploadGuard(application, limits=PATIENT)
        idle = [Client(guard, address=f"192.0.2.{number}") for number in range(9)]
        await asyncio.wait([client.task for client in idle], return_when=asyncio.FIRST_COMPLETED)
        assert (await Client(guard, address="198.51.100.1").answer())[0] == 429
        small = Client(guard, {"content-length": "4"}, address="198.51.100.1")
        small.send(b"tiny")
        await small.answered.wait()
        assert small.sent[0]["status"] == 200
        for client in (*idle, small):
            client.pieces.put_nowait({"type": "http.disconnect"})
        application.may_end.set()
        await asyncio.gather(*(client.task for client in (*idle, small)))
        assert_nothing_is_held(guard)

    asyncio.run(scenario())


def test_a_network_of_ipv6_is_one_client_and_a_mapped_address_of_ipv4_is_another() -> None:
    async def scenario() -> None:
        guard = UploadGuard(Application(), limits=PATIENT)
        same = [Client(guard, address=f"2001:db8:0:1::{number}") for number in range(3)]
        assert (await same[2].answer())[0] == 429
        mapped = [Client(guard, address=f"::ffff:192.0.2.{number}") for number in (1, 2)]
        for client in (*same[:2], *mapped):
            client.pieces.put_nowait({"type": "http.disconnect"})
            await client.task
            assert client.sent == []

    asyncio.run(scenario())


def assert_nothing_is_held(guard: UploadGuard) -> None:
    for bounds in (guard._large, guard._small):
        for shares in (bounds.held_bytes, bounds.unfinished):
            assert (shares.used, shares._used_by) == (0, {})


def test_a_request_without_a_body_is_not_waited_for() -> None:
    async def scenario() -> None:
        called = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            called.append(receive)

        client = Client(UploadGuard(application, limits=LIMITS), {"content-length": "0"})
        await client.task
        assert called == [client.pieces.get]

    asyncio.run(scenario())
