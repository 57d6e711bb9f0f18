"""The query plane on a real Ray Serve, over a real Milvus Lite."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import ray
from pydantic import SecretStr
from ray import serve
from ray.serve.config import HTTPOptions

from penstock import __version__
from penstock.assembly import open_assets
from penstock.config import Settings
from penstock.config.addresses import trusted
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.encoders.load import load_encoders, profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import free_port
from penstock.records import AssetRef, Collection, EncoderInput, Field, bare_entry
from penstock.serve import deployment
from penstock.serve.use_cases.media import MAX_RANGE_BYTES
from penstock.store.milvus.store import MilvusStore
from penstock.store.spec import index_spec
from tests.faults.process import eventually
from tests.query.generate.generator_server import GeneratorDouble, running, streamed
from tests.secured_kafka import Certificates
from tests.serve.exchange import SentEvent, parse_event

PROFILE = load_profile("null:32")
TEXT = "a cat on a mat"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Yields the settings of a store with one text and of a local Ray; both end with the module.

    Serve's proxy has the limits that it has in the embedded Ray.
    """
    limits = pytest.MonkeyPatch()
    limits.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "penstock.serve.proxy.middlewares")
    folder: Path = tmp_path_factory.mktemp("query")
    with EmbeddedMilvus(folder / "milvus") as server:
        uri = server.start()
        configured = Settings(
            profile=PROFILE.name,
            data_dir=folder,
            store={"uri": uri, "timeout_s": 5.0},  # type: ignore[arg-type]
            query={"port": 0, "deadline_ms": 15_000},  # type: ignore[arg-type]  # four workers share the machine
            ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        )
        fill(configured)
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)
        try:
            yield configured
        finally:
            ray.shutdown()
            limits.undo()


def fill(settings: Settings) -> None:
    encoders = load_encoders(PROFILE)
    asset = AssetRef("default", "media.text", "cat")
    vectors = {
        field: encoders[role].encode(EncoderInput(role, ("k",), texts=(TEXT,))).vectors[0]
        for field, role in ((Field.PASSAGE, "passage.text"), (Field.JOINT, "joint.text"))
    }
    entry = replace(
        bare_entry(asset, Collection.TEXT),
        title="cat",
        text=TEXT,
        mime="text/plain",
        end_char=len(TEXT),
        vectors=vectors,
    )
    store = MilvusStore(settings.store)
    store.ensure(index_spec(PROFILE, profile_fingerprints(PROFILE), settings.store))
    store.upsert(Collection.TEXT, [entry])
    store.close()


@pytest.mark.services
def test_serve_answers_on_a_free_port_takes_an_update_and_stops(settings: Settings) -> None:
    try:
        url = deployment.deploy(settings)
        with httpx.Client(base_url=url, timeout=20) as client:
            assert client.get("/readyz").json() == {
                "ready": True,
                "checks": {"store": "ok", "encoders": "ok", "disk": "ok"},
            }
            answer = client.post("/v1/search", json={"text": TEXT})
            assert answer.status_code == 200, answer.text
            assert [hit["key"] for hit in answer.json()["hits"]] == ["cat"]
            refused = client.post("/v1/search", json={"text": ""})
            assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
            assert client.get("/docs").status_code == 200
            check_media(client, settings)
            check_slow_readers(url, settings)
            check_tools(client)
        # A driver that is restarted finds its Serve again, at the same address.
        assert deployment.deploy(settings) == url
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    finally:
        deployment.shutdown()
    # Ray ends the proxy after Serve has stopped: a connection that comes in between is reset.
    eventually(lambda: refuses_connections(url), "the port is closed")


def refuses_connections(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=5)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        pass
    return False


@pytest.mark.services
@pytest.mark.exhaustive
def test_a_replica_refuses_an_address_that_others_reach_while_no_request_needs_credentials(settings: Settings) -> None:
    """Also of an application that was built before Ray was joined, as `serve run` does."""
    serve.start(http_options=HTTPOptions(host="0.0.0.0", port=free_port()))
    try:
        with pytest.raises(RuntimeError) as caught:
            serve.run(deployment.query_application(settings), name=deployment.APPLICATION, route_prefix="/")
        assert "auth.mode is none" in deployment._cause(caught.value)
    finally:
        deployment.shutdown()


@pytest.mark.services
@pytest.mark.exhaustive
def test_serve_speaks_tls_to_known_hosts_and_its_replicas_get_files_of_secrets(
    settings: Settings, tmp_path: Path
) -> None:
    files = Certificates.make(tmp_path)
    certificate = {"tls_cert_file": files.broker, "tls_key_file": files.broker}
    update = {
        "query": settings.query.model_copy(update=certificate),
        "generate": settings.generate.model_copy(update={"key": SecretStr("hunter2")}),
    }
    try:
        url = deployment.deploy(settings.model_copy(update=update))
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=url, timeout=20, verify=trusted(files.ca)) as client:
            answer = client.post("/v1/search", json={"text": TEXT})
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"].startswith("max-age=")
            assert client.get("/healthz", headers={"Host": "rebind.evil.example"}).status_code == 421
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz", timeout=20)
    finally:
        deployment.shutdown()
    assert (settings.data_dir / "secrets" / "serve" / "generate.key").read_text() == "hunter2"


def check_media(client: httpx.Client, settings: Settings) -> None:
    """Media in several pieces come whole and in ranges through the proxy of Serve."""
    data = bytes(range(256)) * 25_000
    path = f"/v1/media/{open_assets(settings).put(data)}"
    assert client.get(path).content == data
    part = client.get(path, headers={"Range": "bytes=1000000-3000000"})
    assert (part.status_code, part.content == data[1_000_000:3_000_001]) == (206, True)
    assert part.headers["content-range"] == f"bytes 1000000-3000000/{len(data)}"
    head = client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    assert client.get(path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert client.get("/v1/live").status_code == 503  # this plane has no Kafka


def check_slow_readers(url: str, settings: Settings) -> None:
    """Bytes that clients do not read are bounded: by the length of a range, and by those of whole answers together."""
    path = f"/v1/media/{open_assets(settings).put(bytes(260 * 1024**2))}"

    def read(**headers: str) -> httpx.Response:
        return httpx.get(f"{url}{path}", headers=headers, timeout=60)

    with httpx.Client(base_url=url, timeout=60) as slow:
        with slow.stream("GET", path, headers={"Range": "bytes=0-"}) as player:
            assert player.status_code == 206
            assert int(player.headers["content-length"]) == MAX_RANGE_BYTES
            beginning = player.iter_raw(4096)  # closes the connection when it is deleted
            assert len(next(beginning)) == 4096
            assert len(read(Range="bytes=0-").content) == MAX_RANGE_BYTES
        with slow.stream("GET", path) as download:
            beginning = download.iter_raw(4096)
            assert len(next(beginning)) == 4096
            refused = read()
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            assert read(Range="bytes=7-8").status_code == 206
        # The client has gone, and after it one that has everything: neither keeps the next one from its answer.
        for _ in range(2):
            whole = read()
            assert (whole.status_code, len(whole.content)) == (200, 260 * 1024**2)


@pytest.mark.exhaustive
def test_slow_and_many_bodies_end_in_front_of_the_replicas(settings: Settings) -> None:
    """24 bodies of 27 MB that never end, one that comes by the byte, and headers that do."""
    url = urlsplit(deployment.deploy(settings))
    address = (url.hostname or "", url.port or 0)
    (proxy,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if "ServeReplica" not in _title(process) and "ProxyActor" in _title(process)
    )
    before = proxy.memory_info().rss
    head = b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    slow = [socket.create_connection(address) for _ in range(2)]
    slow[0].sendall(head)
    slow[1].sendall(head + b"Content-Length: 100\r\n\r\n{")
    large = [socket.create_connection(address) for _ in range(24)]
    try:
        for connection in large:
            connection.settimeout(150)
            connection.sendall(head + b"Content-Length: 27000001\r\n\r\n")
            with suppress(OSError):  # refused, and closed
                connection.sendall(b" " * 27_000_000)
        assert proxy.memory_info().rss - before < 400 * 2**20
        for connection in slow:
            connection.settimeout(60)
        assert slow[0].recv(100) == b""
        assert slow[1].recv(100).startswith(b"HTTP/1.1 408")
        answers = [_received(connection)[:12] for connection in large]
        assert set(answers) <= {b"HTTP/1.1 408", b"HTTP/1.1 429", b""}
        assert b"HTTP/1.1 408" in answers
        assert httpx.post(f"{url.geturl()}/v1/search", json={"text": TEXT}, timeout=60).status_code == 200
    finally:
        for connection in (*slow, *large):
            connection.close()
        deployment.shutdown()


def _title(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or [])


def _received(connection: socket.socket) -> bytes:
    """Returns what comes until the connection is closed."""
    pieces = bytearray()
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            pieces += piece
    return bytes(pieces)


def check_tools(client: httpx.Client) -> None:
    """A request without a session is answered by any replica."""
    pytest.importorskip("mcp")
    call = {"name": "search", "arguments": {"query": TEXT, "limit": 1}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    answer = client.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"})
    assert answer.json()["result"]["structuredContent"]["hits"][0]["words"] == TEXT


@pytest.mark.services
@pytest.mark.exhaustive
def test_answers_are_resumed_on_any_replica_and_end_with_their_clients(settings: Settings) -> None:
    async def scenario() -> None:
        words = ("A cat is", " on a mat [1].", " It sleeps there.")
        async with running(GeneratorDouble(parts=streamed(words), hold_after=2)) as generator:
            generate = settings.generate.model_copy(update={"url": generator.url})
            query = settings.query.model_copy(update={"replicas": 2})
            configured = settings.model_copy(update={"generate": generate, "query": query})
            url = await asyncio.to_thread(deployment.deploy, configured)
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                await asyncio.wait_for(check_resuming(client, generator), 60)
                for stream in (True, False):
                    await check_leaving(client, generator, stream=stream)

    try:
        asyncio.run(asyncio.wait_for(scenario(), 240))
    finally:
        deployment.shutdown()
    with pytest.raises(ValueError, match="penstock-answer-logs"):
        ray.get_actor(f"penstock-answer-logs-{__version__}", namespace="penstock")


QUESTION = {"question": "where is the cat?"}


async def check_resuming(client: httpx.AsyncClient, generator: GeneratorDouble) -> None:
    """Breaks a stream off, and reads the rest on eight connections, which Serve spreads over both replicas."""
    first: list[SentEvent] = []
    async with client.stream("POST", "/v1/ask", json={**QUESTION, "stream": True, "resumable": True}) as response:
        assert response.headers["x-accel-buffering"] == "no"
        async for event in events_of(response):
            first.append(event)
            if event.name == "token":
                break
    assert [event.name for event in first] == ["search", "token"]
    path, read = f"/v1/ask/{first[0].data['answer_id']}", asyncio.Barrier(9)

    async def rest() -> list[SentEvent]:
        async with client.stream("GET", path, headers={"Last-Event-ID": "2"}) as response:
            if response.status_code != 200:
                await read.abort()
            await read.wait()
            return [event async for event in events_of(response)]

    readers = [asyncio.create_task(rest()) for _ in range(8)]
    await read.wait()
    generator.resume.set()
    ends = await asyncio.gather(*readers)
    assert all(end == ends[0] for end in ends)
    assert [event.number for event in ends[0]] == list(range(3, 3 + len(ends[0])))
    assert ends[0][-1].name == "done"
    assert not generator.left.is_set()
    assert (await client.get(path, headers={"Last-Event-ID": "2"})).text.count("event: done") == 1
    assert (await client.get(path, params={"tenant": "acme"})).status_code == 404


async def check_leaving(client: httpx.AsyncClient, generator: GeneratorDouble, *, stream: bool) -> None:
    """Closes the connection of a client while its answer is written, which ends the request to the generator.

    Nothing else can end it: the generator holds its answer for as long as `resume` is not set.
    """
    generator.resume.clear()
    generator.left.clear()
    before = len(generator.requests)

    async def ask() -> None:
        async with client.stream("POST", "/v1/ask", json={**QUESTION, "stream": stream}) as response:
            async for _ in events_of(response):
                pass

    asking = asyncio.create_task(ask())
    while len(generator.requests) == before:  # noqa: ASYNC110  the double is what another test set uses, too
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait_for(generator.left.wait(), 60)


async def events_of(response: httpx.Response) -> AsyncIterator[SentEvent]:
    """Yields the events of a response as they come."""
    text = ""
    async for piece in response.aiter_text():
        text += piece
        *blocks, text = text.split("\n\n")
        for event in map(parse_event, blocks):
            if event is not None:
                yield event


@pytest.mark.services
def test_errors_that_keep_the_plane_from_starting_are_raised_before_anything_starts(settings: Settings) -> None:
    def changed(**update: object) -> Settings:
        return settings.model_copy(update=update)

    with pytest.raises(ConfigError, match="nonsense"):
        deployment.deploy(changed(profile="nonsense"))
    with pytest.raises(ConfigError, match=r"store\.uri"):
        deployment.deploy(changed(store=settings.store.model_copy(update={"uri": None})))
    unreachable = settings.store.model_copy(update={"uri": "http://127.0.0.1:9", "timeout_s": 1.0})
    with pytest.raises(UnavailableError, match="127"):
        deployment.deploy(changed(store=unreachable))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* in use"):
            deployment.deploy(changed(query=settings.query.model_copy(update={"port": port})))
