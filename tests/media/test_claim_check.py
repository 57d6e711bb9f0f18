"""Claim checks to real files and to real servers on loopback."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from penstock.assets import AssetStore
from penstock.config import FetchRule, FetchSettings
from penstock.errors import Reason
from penstock.media.fetch import Fetcher
from penstock.media.networks import networks
from penstock.records import Event
from tests.media.helpers import TOPICS, rejection_of
from tests.media.http_server import PNG, Server, redirect, send

BUCKET = FetchRule(tenants=("*",), scheme="s3", bucket="bucket")


def folder(root: Path, tenant: str = "*") -> tuple[FetchRule, ...]:
    return (FetchRule(tenants=(tenant,), scheme="file", prefix=str(root)),)


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
    fetched = fetcher_of(allow=folder(root)).fetch(event_of(uri))
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
    assert rejection_of(fetcher_of(allow=folder(root)), event_of(f"file://{root}/{path}")).reason is Reason.FORBIDDEN


def test_no_file_is_allowed_unless_roots_are_set(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    rejection = rejection_of(fetcher_of(), event_of((root / "sub" / "a b%41.png").as_uri()))
    assert rejection.reason is Reason.FORBIDDEN
    assert "no rule of fetch.allow lets the tenant default read" in str(rejection)


def test_a_link_within_the_root_is_followed(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    (root / "inner.png").symlink_to("sub/a b%41.png")
    assert fetcher_of(allow=folder(root)).fetch(event_of(f"file://{root}/inner.png")).data == PNG


def test_only_regular_files_of_this_host_are_read(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    os.mkfifo(root / "pipe")
    fetcher = fetcher_of(allow=folder(root))
    for uri in (f"file://{root}/pipe", f"file://{root}/sub", f"file://elsewhere{root}/sub/x.png"):
        assert rejection_of(fetcher, event_of(uri)).reason is Reason.FORBIDDEN


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
        rejection_of(fetcher_of(allow=folder(root)), event_of(f"file://{root}/sub/secret.png")).reason
        is Reason.FORBIDDEN
    )


def test_an_absent_file_is_unreachable(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    assert (
        rejection_of(fetcher_of(allow=folder(root)), event_of(f"file://{root}/absent.png")).reason is Reason.UNREACHABLE
    )


def test_a_file_of_two_gigabytes_is_rejected_unread(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], root: Path
) -> None:
    with (root / "large.png").open("wb") as sparse:
        sparse.truncate(2 * 1024**3)
    started = time.perf_counter()
    rejection = rejection_of(fetcher_of(allow=folder(root)), event_of(f"file://{root}/large.png"))
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
        ("file:///x.png", Reason.FORBIDDEN),
        ("s3://arn:aws:s3/x", Reason.MALFORMED),
        ("s3://bucket/x", Reason.FORBIDDEN),
    ],
)
def test_addresses_that_are_rejected_without_a_request(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], uri: str, reason: Reason
) -> None:
    rejection = rejection_of(fetcher_of(), event_of(uri))
    assert rejection.reason is reason
    assert "hunter2" not in str(rejection)


def test_public_hosts_can_be_disallowed(fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]) -> None:
    fetcher = fetcher_of(loopback=False, allow_public=False)
    rejection = rejection_of(fetcher, event_of("https://example.org/a.png"))
    assert rejection.reason is Reason.FORBIDDEN


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_private_hosts_are_forbidden_by_default(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, host: str
) -> None:
    rejection = rejection_of(fetcher_of(loopback=False), event_of(server.url("/a", host)))
    assert rejection.reason is Reason.FORBIDDEN
    assert server.requests == []


def test_a_name_that_resolves_to_a_private_address_is_forbidden(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    resolver = {"looks.public": ["127.0.0.1"]}
    fetcher = fetcher_of(loopback=False, options={"resolver": lambda host, port: resolver[host]})
    rejection = rejection_of(fetcher, event_of(server.url("/a", "looks.public")))
    assert (rejection.reason, server.requests) == (Reason.FORBIDDEN, [])
    assert "looks.public resolves to 127.0.0.1" in str(rejection)


def test_the_connection_goes_to_the_address_that_was_checked(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    """A name is resolved once a connection, and the host header keeps the name: no second answer can rebind it."""
    server.routes["/a"] = send()
    resolved: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        resolved.append(host)
        return ["127.0.0.1"] if len(resolved) == 1 else ["203.0.113.1"]

    fetcher = fetcher_of(options={"resolver": resolver})
    assert fetcher.fetch(event_of(server.url("/a", "no.such.name.invalid"))).data == PNG
    assert resolved == ["no.such.name.invalid"]
    assert server.hosts == [f"no.such.name.invalid:{server.port}"]


# --- http ------------------------------------------------------------------------------------------------------------


def test_media_behind_http_keep_their_address_without_its_query(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a.png"] = send()
    fetched = fetcher_of().fetch(event_of(server.url("/a.png?size=1")))
    assert (fetched.data, fetched.uri, server.requests) == (PNG, server.url("/a.png"), ["/a.png?size=1"])


def test_connections_are_reused(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send()
    fetcher = fetcher_of()
    for _ in range(5):
        fetcher.fetch(event_of(server.url("/a")))
    assert len(server.connections) == 1


def test_redirects_are_followed(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes.update({"/a": redirect("/b"), "/b": redirect(server.url("/c"), 307), "/c": send()})
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://inner.host/x", "file:///etc/passwd",
                                    "http://u:p@public.host/", "gopher://public.host/"])  # fmt: skip
def test_a_redirect_to_a_forbidden_address_is_forbidden(
    assets: AssetStore, event_of: Callable[..., Event], server: Server, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server on loopback plays a public host here: of the addresses, its own is taken for public."""
    from penstock.media import ssrf_guard as hosts

    monkeypatch.setattr(hosts, "is_public", lambda address: address == "127.0.0.1")
    never = networks(["169.254.0.0/16"])
    server.routes["/a"] = redirect(target)
    names = {"public.host": ["127.0.0.1"], "inner.host": ["10.0.0.1"], "169.254.169.254": ["169.254.169.254"]}
    reader: dict[str, Any] = {"resolver": lambda host, port: names[host], "never": never}
    with Fetcher(FetchSettings(), assets, topic_of=TOPICS, **reader) as fetcher:
        assert rejection_of(fetcher, event_of(server.url("/a", "public.host"))).reason is Reason.FORBIDDEN
    assert server.requests == ["/a"]


def test_a_loop_of_redirects_ends(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = redirect("/a")
    assert rejection_of(fetcher_of(), event_of(server.url("/a"))).reason is Reason.UNREACHABLE
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 304])
def test_a_permanent_status_is_unreachable_immediately(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, status: int
) -> None:
    server.routes["/a"] = send(b"", status)
    rejection = rejection_of(fetcher_of(), event_of(server.url("/a")))
    assert rejection.reason is Reason.UNREACHABLE
    assert f"returned HTTP status {status}" in str(rejection)
    assert len(server.requests) == 1


def test_a_host_where_nothing_listens_is_unreachable(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]
) -> None:
    from penstock.processes import free_port

    fetcher = fetcher_of(deadline_s=1.0, options={"sleep": time.sleep})
    rejection = rejection_of(fetcher, event_of(f"http://127.0.0.1:{free_port()}/a"))
    assert rejection.reason is Reason.UNREACHABLE


def test_an_announced_size_above_the_limit_is_rejected_unread(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send(b"", headers={"Content-Length": str(2 * 1024**3)})
    rejection = rejection_of(fetcher_of(max_bytes=1_000), event_of(server.url("/a")))
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
    assert rejection_of(fetcher_of(max_bytes=1_000_000), event_of(server.url("/a"))).reason is Reason.TOO_LARGE
    assert sent[0] < 100_000_000


def test_more_bytes_than_announced_are_not_read(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send(PNG + bytes(5_000_000), headers={"Content-Length": str(len(PNG))})
    assert fetcher_of(max_bytes=1_000).fetch(event_of(server.url("/a"))).data == PNG


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
    rejection = rejection_of(fetcher_of(deadline_s=0.6), event_of(server.url("/a")))
    stop.set()
    assert rejection.reason is Reason.UNREACHABLE
    assert 0.4 < time.monotonic() - started < 3


# --- s3 --------------------------------------------------------------------------------------------------------------


def test_rotated_credentials_of_a_rule_leave_one_file_system(
    fetcher_of: Callable[..., Fetcher],
    event_of: Callable[..., Event],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    users: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        users.append(handler.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        send(headers={"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"x"'})(handler)

    server.routes["/bucket/a.png"] = answer
    rule = BUCKET.model_copy(update={"credentials_file": tmp_path / "key"})
    fetcher = fetcher_of(allow=(rule,), s3_endpoint=server.url(""), deadline_s=10.0)
    for user in ("one", "two", "three", "three"):
        (tmp_path / "key").write_text(f"{user}:secret")
        fetcher.fetch(event_of("s3://bucket/a.png"))
    assert list(dict.fromkeys(users)) == ["one", "two", "three"]
    assert len(fetcher._reader._s3_file_systems) == 1


def test_an_object_is_read_from_the_configured_endpoint(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    dated = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"x"'}
    server.routes["/bucket/a%20b.png"] = send(headers=dated)
    server.routes["/bucket/large.png"] = send(b"", headers={**dated, "Content-Length": "5000"})
    fetcher = fetcher_of(allow=(BUCKET,), s3_endpoint=server.url(""), max_bytes=4_000, deadline_s=10.0)
    fetched = fetcher.fetch(event_of("s3://bucket/a%20b.png"))
    assert (fetched.data, fetched.uri) == (PNG, "s3://bucket/a%20b.png")
    assert rejection_of(fetcher, event_of("s3://bucket/large.png")).reason is Reason.TOO_LARGE
    assert rejection_of(fetcher, event_of("s3://bucket/absent.png")).reason is Reason.UNREACHABLE
