"""Claim checks to real files and to real servers on loopback, and inline media."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from penstock.assets import AssetStore
from penstock.config import FetchSettings
from penstock.errors import BadInputError, Reason, UnavailableError
from penstock.media.fetch import Fetcher
from penstock.records import ClaimCheck, Event, FetchedMedia, Modality

TOPIC_OF = {modality: f"media.{modality}" for modality in Modality}


def _png(side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG")
    return out.getvalue()


PNG = _png()


# --- a server --------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server that answers each path with a function, and records requests and connections."""

    routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def _send(body: bytes = PNG, status: int = 200, headers: Mapping[str, str] | None = None) -> Callable[..., None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def _redirect(location: str, status: int = 302) -> Callable[..., None]:
    return _send(b"", status, {"Location": location})


def _in_turn(*answers: Callable[..., None]) -> Callable[..., None]:
    left = iter(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(left)(handler)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append(self.path)
            state.hosts.append(self.headers["Host"])
            state.connections.add(self.client_address)
            route = state.routes.get(self.path.partition("?")[0])
            try:
                (route or _send(b"", 404))(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return

    httpd = Quiet(("127.0.0.1", 0), Handler)
    state.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def assets(tmp_path: Path) -> AssetStore:
    return AssetStore((tmp_path / "assets").as_uri())


@pytest.fixture
def fetcher_of(assets: AssetStore) -> Iterator[Callable[..., Fetcher]]:
    """Returns a function that makes fetchers which may reach loopback and do not wait between attempts, by default."""
    fetchers: list[Fetcher] = []

    def make(*, options: Mapping[str, Any] | None = None, **settings: Any) -> Fetcher:
        defaults = {"allow_private_addresses": True, "deadline_s": 5.0}
        limits = FetchSettings(**{**defaults, **settings})
        fetchers.append(Fetcher(limits, assets, topic_of=TOPIC_OF, **{"sleep": lambda _: None, **(options or {})}))
        return fetchers[-1]

    yield make
    for fetcher in fetchers:
        fetcher.close()


def _rejection(fetcher: Fetcher, event: Event) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        fetcher.fetch(event)
    return caught.value


# --- inline ----------------------------------------------------------------------------------------------------------


def test_inline_media_go_to_the_asset_store(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore
) -> None:
    fetched = fetcher_of().fetch(event_of(PNG))
    sha256 = hashlib.sha256(PNG).hexdigest()
    assert (fetched.data, fetched.mime, fetched.sha256, fetched.uri) == (PNG, "image/png", sha256, f"asset:{sha256}")
    assert fetched.event.payload == ClaimCheck(fetched.uri)
    assert assets.read(sha256) == PNG


@dataclass(frozen=True)
class Bad:
    data: bytes
    modality: Modality
    reason: Reason
    words: str


@pytest.mark.parametrize(
    "bad",
    [
        Bad(b"", Modality.IMAGE, Reason.CORRUPT, "null value"),
        Bad(PNG + bytes(2_000), Modality.IMAGE, Reason.TOO_LARGE, "fetch.max_bytes is 1,000"),
        Bad(b"\x7fELF\2\1\1" + bytes(90), Modality.IMAGE, Reason.UNSUPPORTED, "declared as image/png"),
        Bad(PNG, Modality.TEXT, Reason.WRONG_TOPIC, "send it to media.image"),
        Bad(b"words", Modality.IMAGE, Reason.WRONG_TOPIC, "send it to media.text"),
        Bad(b"ID3\4" + bytes(90), Modality.IMAGE, Reason.WRONG_TOPIC, "send it to media.audio"),
    ],
    ids=lambda bad: bad.words,
)
def test_inline_media_that_are_rejected_are_not_stored(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore, bad: Bad
) -> None:
    event = event_of(bad.data, modality=bad.modality, declared="image/png")
    rejection = _rejection(fetcher_of(max_bytes=1_000), event)
    assert rejection.reason is bad.reason
    assert bad.words in str(rejection)
    assert list(assets.list()) == []


def test_a_tombstone_has_nothing_to_fetch(fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]) -> None:
    with pytest.raises(ValueError, match="tombstone"):
        fetcher_of().fetch(event_of(None))


def test_an_unavailable_asset_store_stops_the_batch(event_of: Callable[..., Event], tmp_path: Path) -> None:
    (tmp_path / "blocker").write_bytes(b"")
    away = AssetStore(str(tmp_path / "blocker"))
    with Fetcher(FetchSettings(), away, topic_of=TOPIC_OF) as fetcher, pytest.raises(UnavailableError):
        fetcher.fetch_batch([event_of(PNG)])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a b%41.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    return root


def test_a_file_below_a_root_is_read_and_keeps_its_address(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path, assets: AssetStore
) -> None:
    uri = (root / "sub" / "a b%41.png").as_uri()
    fetched = fetcher_of(allowed_roots=(root,)).fetch(event_of(uri))
    assert (fetched.data, fetched.uri) == (PNG, uri)
    assert list(assets.list()) == []


@pytest.mark.parametrize(
    "path", ["../secret.png", "sub/../../secret.png", "link.png", "linked/secret.png", "absent/../.."]
)
def test_a_file_outside_of_the_roots_is_forbidden(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path, path: str
) -> None:
    (root / "link.png").symlink_to("../secret.png")
    (root / "linked").symlink_to("..")
    assert _rejection(fetcher_of(allowed_roots=(root,)), event_of(f"file://{root}/{path}")).reason is Reason.FORBIDDEN


def test_no_file_is_allowed_unless_roots_are_set(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    rejection = _rejection(fetcher_of(), event_of((root / "sub" / "a b%41.png").as_uri()))
    assert rejection.reason is Reason.FORBIDDEN
    assert "none are set" in str(rejection)


def test_a_link_within_the_root_is_followed(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    (root / "inner.png").symlink_to("sub/a b%41.png")
    assert fetcher_of(allowed_roots=(root,)).fetch(event_of(f"file://{root}/inner.png")).data == PNG


def test_only_regular_files_of_this_host_are_read(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    os.mkfifo(root / "pipe")
    fetcher = fetcher_of(allowed_roots=(root,))
    for uri in (f"file://{root}/pipe", f"file://{root}/sub", f"file://elsewhere{root}/sub/x.png"):
        assert _rejection(fetcher, event_of(uri)).reason is Reason.FORBIDDEN


@pytest.mark.parametrize("put_back", [False, True])
def test_a_path_that_changes_while_it_is_opened_is_forbidden(
    fetcher_of: Callable[..., Fetcher],
    event_of: Callable[..., Event],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    put_back: bool,
) -> None:
    (root / "sub" / "secret.png").write_bytes(PNG)
    real_open = os.open

    def open_elsewhere(path: Path, flags: int) -> int:
        (root / "sub").rename(root / "aside")
        (root / "sub").symlink_to("..")
        descriptor = real_open(path, flags)
        if put_back:
            (root / "sub").unlink()
            (root / "aside").rename(root / "sub")
        return descriptor

    monkeypatch.setattr("penstock.media.claim_check.os.open", open_elsewhere)
    assert (
        _rejection(fetcher_of(allowed_roots=(root,)), event_of(f"file://{root}/sub/secret.png")).reason
        is Reason.FORBIDDEN
    )


def test_an_absent_file_is_unreachable(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    assert (
        _rejection(fetcher_of(allowed_roots=(root,)), event_of(f"file://{root}/absent.png")).reason
        is Reason.UNREACHABLE
    )


def test_a_file_of_two_gigabytes_is_rejected_unread(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    with (root / "large.png").open("wb") as sparse:
        sparse.truncate(2 * 1024**3)
    started = time.perf_counter()
    rejection = _rejection(fetcher_of(allowed_roots=(root,)), event_of(f"file://{root}/large.png"))
    assert time.perf_counter() - started < 0.5
    assert rejection.reason is Reason.TOO_LARGE
    assert "2,147,483,648 bytes" in str(rejection)


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gopher://h/x", Reason.FORBIDDEN),
        ("data:text/plain,x", Reason.FORBIDDEN),
        ("asset:" + "0" * 64, Reason.FORBIDDEN),
        ("relative/path", Reason.FORBIDDEN),
        ("http://user:hunter2@host/x", Reason.FORBIDDEN),
        ("http://127.0.0.1/\n", Reason.MALFORMED),
        ("http:///x", Reason.MALFORMED),
        ("http://host:70000/x", Reason.MALFORMED),
        ("file:x.png", Reason.MALFORMED),
        ("s3://bucket", Reason.MALFORMED),
        ("s3://arn:aws:s3/x", Reason.MALFORMED),
    ],
)
def test_addresses_that_are_rejected_without_a_request(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], uri: str, reason: Reason
) -> None:
    rejection = _rejection(fetcher_of(), event_of(uri))
    assert rejection.reason is reason
    assert "hunter2" not in str(rejection)


def test_a_scheme_can_be_disallowed(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    rejection = _rejection(fetcher_of(allowed_schemes=("file", "https")), event_of(server.url("/a")))
    assert rejection.reason is Reason.FORBIDDEN
    assert server.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_private_hosts_are_forbidden_by_default(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, host: str
) -> None:
    rejection = _rejection(fetcher_of(allow_private_addresses=False), event_of(server.url("/a", host)))
    assert rejection.reason is Reason.FORBIDDEN
    assert server.requests == []


def test_a_name_that_resolves_to_a_private_address_is_forbidden(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    resolver = {"looks.public": ["127.0.0.1"]}
    fetcher = fetcher_of(allow_private_addresses=False, options={"resolver": lambda host, port: resolver[host]})
    rejection = _rejection(fetcher, event_of(server.url("/a", "looks.public")))
    assert (rejection.reason, server.requests) == (Reason.FORBIDDEN, [])
    assert "looks.public resolves to 127.0.0.1" in str(rejection)


def test_the_connection_goes_to_the_address_that_was_checked(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    """A name is resolved once a connection, and the host header keeps the name: no second answer can rebind it."""
    server.routes["/a"] = _send()
    resolved: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        resolved.append(host)
        return ["127.0.0.1"] if len(resolved) == 1 else ["203.0.113.1"]

    fetcher = fetcher_of(options={"resolver": resolver})
    assert fetcher.fetch(event_of(server.url("/a", "no.such.name.invalid"))).data == PNG
    assert resolved == ["no.such.name.invalid"]
    assert server.hosts == [f"no.such.name.invalid:{server.port}"]


# --- http ------------------------------------------------------------------------------------------------------------


def test_media_behind_http_keep_their_address(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a.png"] = _send()
    fetched = fetcher_of().fetch(event_of(server.url("/a.png?size=1")))
    assert (fetched.data, fetched.uri, server.requests) == (PNG, server.url("/a.png?size=1"), ["/a.png?size=1"])


def test_connections_are_reused(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send()
    fetcher = fetcher_of()
    for _ in range(5):
        fetcher.fetch(event_of(server.url("/a")))
    assert len(server.connections) == 1


def test_redirects_are_followed(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes.update({"/a": _redirect("/b"), "/b": _redirect(server.url("/c"), 307), "/c": _send()})
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://inner.host/x", "file:///etc/passwd",
                                    "http://u:p@public.host/", "gopher://public.host/"])  # fmt: skip
def test_a_redirect_to_a_forbidden_address_is_forbidden(
    assets: AssetStore, event_of: Callable[..., Event], server: Server, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server on loopback plays a public host here: of the addresses, its own is taken for public."""
    from penstock.media import ssrf_guard as hosts

    monkeypatch.setattr(hosts, "is_public", lambda address: address == "127.0.0.1")
    server.routes["/a"] = _redirect(target)
    names = {"public.host": ["127.0.0.1"], "inner.host": ["10.0.0.1"], "169.254.169.254": ["169.254.169.254"]}
    with Fetcher(FetchSettings(), assets, topic_of=TOPIC_OF, resolver=lambda host, port: names[host]) as fetcher:
        assert _rejection(fetcher, event_of(server.url("/a", "public.host"))).reason is Reason.FORBIDDEN
    assert server.requests == ["/a"]


def test_a_loop_of_redirects_ends(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _redirect("/a")
    assert _rejection(fetcher_of(), event_of(server.url("/a"))).reason is Reason.UNREACHABLE
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 304])
def test_a_permanent_status_is_unreachable_immediately(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, status: int
) -> None:
    server.routes["/a"] = _send(b"", status)
    rejection = _rejection(fetcher_of(), event_of(server.url("/a")))
    assert rejection.reason is Reason.UNREACHABLE
    assert f"returned HTTP status {status}" in str(rejection)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_transient_failure_is_retried(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, status: int
) -> None:
    answers = (_send(b"", status), _send(b"", status), _send())
    server.routes["/a"] = _in_turn(*answers)
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG
    assert len(server.requests) == 3


def test_attempts_back_off_and_end_before_the_deadline(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send(b"", 503)
    now_s, waits = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now_s[0] += seconds

    fetcher = fetcher_of(deadline_s=30.0, options={"clock": lambda: now_s[0], "sleep": sleep})
    rejection = _rejection(fetcher, event_of(server.url("/a")))
    assert rejection.reason is Reason.UNREACHABLE
    assert f"{len(waits) + 1} attempts within fetch.deadline_s, 30 s" in str(rejection)
    assert len(server.requests) == len(waits) + 1
    assert waits[0] < 0.5 < waits[-1] <= 5.5
    assert sum(waits) < 30


def test_the_wait_that_a_server_requests_is_kept(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    answers = (_send(b"", 429, {"Retry-After": "3"}), _send())
    server.routes["/a"] = _in_turn(*answers)
    waits: list[float] = []
    fetcher_of(options={"sleep": waits.append}).fetch(event_of(server.url("/a")))
    assert waits == [3.0]


def test_a_host_where_nothing_listens_is_unreachable(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]
) -> None:
    from penstock.processes import free_port

    fetcher = fetcher_of(deadline_s=1.0, options={"sleep": time.sleep})
    rejection = _rejection(fetcher, event_of(f"http://127.0.0.1:{free_port()}/a"))
    assert rejection.reason is Reason.UNREACHABLE


def test_an_announced_size_above_the_limit_is_rejected_unread(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send(b"", headers={"Content-Length": str(2 * 1024**3)})
    rejection = _rejection(fetcher_of(max_bytes=1_000), event_of(server.url("/a")))
    assert (rejection.reason, len(server.requests)) == (Reason.TOO_LARGE, 1)


def test_a_body_that_never_ends_is_cut_at_the_limit(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    sent = [0]

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while sent[0] < 500_000_000:
            handler.wfile.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            sent[0] += 65_536

    server.routes["/a"] = endless
    assert _rejection(fetcher_of(max_bytes=1_000_000), event_of(server.url("/a"))).reason is Reason.TOO_LARGE
    assert sent[0] < 100_000_000


def test_more_bytes_than_announced_are_not_read(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send(PNG + bytes(5_000_000), headers={"Content-Length": str(len(PNG))})
    assert fetcher_of(max_bytes=1_000).fetch(event_of(server.url("/a"))).data == PNG


def test_fewer_bytes_than_announced_are_a_transient_failure(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    def short(handler: BaseHTTPRequestHandler) -> None:
        _send(PNG[:20], headers={"Content-Length": str(len(PNG))})(handler)
        handler.close_connection = True

    answers = (short, _send())
    server.routes["/a"] = _in_turn(*answers)
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG
    assert len(server.requests) == 2


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_slow_server_is_given_up_at_the_deadline(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, part: str
) -> None:
    stop = threading.Event()

    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        if part == "body":
            handler.wfile.write(b"Content-Length: 100000\r\n\r\n")
        while not stop.wait(0.05):
            handler.wfile.write(b"x-drip: 1\r\n" if part == "headers" else b"x")

    server.routes["/a"] = drips
    started = time.monotonic()
    rejection = _rejection(fetcher_of(deadline_s=0.6), event_of(server.url("/a")))
    stop.set()
    assert rejection.reason is Reason.UNREACHABLE
    assert 0.4 < time.monotonic() - started < 3


# --- s3 --------------------------------------------------------------------------------------------------------------


def test_an_object_is_read_from_the_configured_endpoint(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    dated = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"x"'}
    server.routes["/bucket/a%20b.png"] = _send(headers=dated)
    server.routes["/bucket/large.png"] = _send(b"", headers={**dated, "Content-Length": "5000"})
    fetcher = fetcher_of(allow_private_addresses=False, s3_endpoint=server.url(""), max_bytes=4_000, deadline_s=10.0)
    fetched = fetcher.fetch(event_of("s3://bucket/a%20b.png"))
    assert (fetched.data, fetched.uri) == (PNG, "s3://bucket/a%20b.png")
    assert _rejection(fetcher, event_of("s3://bucket/large.png")).reason is Reason.TOO_LARGE
    assert _rejection(fetcher, event_of("s3://bucket/absent.png")).reason is Reason.UNREACHABLE


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_fetched_concurrently_and_keeps_its_order(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    gate = threading.Barrier(8, timeout=10)  # opens only if eight are requested concurrently

    def together(handler: BaseHTTPRequestHandler) -> None:
        gate.wait()
        _send()(handler)

    server.routes["/together"] = together
    events = [event_of(server.url("/together")) for _ in range(8)]
    events[3:3] = [event_of(b"words"), event_of("gopher://x/")]
    fetched, rejected = fetcher_of().fetch_batch(events)
    assert [media.event.position for media in fetched] == [event.position for event in events[:3] + events[5:]]
    assert [(rejection.position, rejection.step, rejection.reason) for rejection in rejected] == [
        (events[3].position, "fetch", Reason.WRONG_TOPIC),
        (events[4].position, "fetch", Reason.FORBIDDEN),
    ]


def test_large_media_of_several_batches_wait_for_memory_and_small_ones_do_not(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    large, gate = _png(30), threading.Event()

    def held(handler: BaseHTTPRequestHandler) -> None:
        """Delays the second request, which follows once the media are known to be large."""
        if server.requests.count(handler.path) > 1:
            gate.wait(10)
        _send(large)(handler)

    server.routes |= {"/small": _send(), "/large": held}
    fetcher = fetcher_of(
        max_bytes=4_000, deadline_s=30.0, options={"small_bytes": len(large) - 1, "large_budget_bytes": 2 * 4_000}
    )

    def batch(name: str) -> list[Event]:
        paths = (f"/large?{name}0", f"/small?{name}", f"/large?{name}1")
        return [event_of(server.url(path)) for path in paths]

    def request_count(name: str) -> int:
        return sum(path.startswith(f"/large?{name}") for path in server.requests)

    first, second, small = batch("a"), batch("b"), [event_of(server.url("/small?c"))]
    with ThreadPoolExecutor(3) as threads:
        try:
            holding = threads.submit(fetcher.fetch_batch, first)
            _until(lambda: request_count("a") == 4)
            waiting = threads.submit(fetcher.fetch_batch, second)
            _until(lambda: request_count("b") >= 2)
            assert len(threads.submit(fetcher.fetch_batch, small).result(10)[0]) == 1
            time.sleep(0.2)  # more than enough for another request
            assert request_count("b") == 2
        finally:
            gate.set()
        for events, call in ((first, holding), (second, waiting)):
            fetched, rejected = call.result(10)
            assert [media.event.position for media in fetched] == [event.position for event in events]
            assert rejected == []
    assert request_count("b") == 4


def test_media_fetched_alone_are_requested_once_at_any_size(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send()
    fetched = fetcher_of(options={"small_bytes": 1, "large_budget_bytes": 1}).fetch_one(event_of(server.url("/a")))
    assert isinstance(fetched, FetchedMedia)
    assert server.requests == ["/a"]


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_unexpected_error_rejects_that_event_alone(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.media import fetch

    real = fetch.sniff

    def fails_on_odd(data: bytes, *, declared: str | None) -> Any:
        if declared == "odd/one":
            raise ZeroDivisionError("odd")
        return real(data, declared=declared)

    monkeypatch.setattr(fetch, "sniff", fails_on_odd)
    fetched, rejected = fetcher_of().fetch_batch([event_of(PNG, declared="odd/one"), event_of(PNG)])
    assert len(fetched) == 1
    assert "ZeroDivisionError: odd" in rejected[0].detail


def test_a_fetcher_serves_several_threads(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = _send()
    fetcher = fetcher_of()
    batches = [[event_of(server.url("/a")), event_of(_png())] for _ in range(20)]
    with ThreadPoolExecutor(4) as threads:
        done: list[tuple[list[FetchedMedia], Any]] = list(threads.map(fetcher.fetch_batch, batches))
    assert [len(fetched) for fetched, _ in done] == [2] * 20
    assert all(isinstance(event.payload, ClaimCheck) for event, _ in batches)
