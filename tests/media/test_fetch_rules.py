"""Rules say which tenant may name which place; nothing else is read, whatever an event names."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import FetchRule, FetchSettings, load_settings
from penstock.errors import BadInputError, ConfigError, Reason
from penstock.media.claim_check import ClaimCheckReader
from penstock.media.fetch import Fetcher
from penstock.media.fetch_rules import FetchRules, parse_url
from penstock.media.networks import NEVER
from penstock.media.own_services import OwnServices, own_hosts
from penstock.media.ssrf_guard import GuardedNetwork
from penstock.records import Event
from tests.media.helpers import rejection_of
from tests.media.http_server import PNG, Server, redirect, send


def web(host: str, *, scheme: str = "https", tenants: tuple[str, ...] = ("acme",), **more: Any) -> FetchRule:
    return FetchRule(tenants=tenants, scheme=scheme, host=host, **more)


def of(event: Event, tenant: str) -> Event:
    return replace(event, asset=replace(event.asset, tenant=tenant))


def is_allowed(rules: FetchRules, uri: str, tenant: str) -> bool:
    try:
        rules.rule_of(parse_url(uri), tenant)
    except BadInputError as exc:
        return exc.reason is not Reason.FORBIDDEN
    return True


# --- who may name what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "s3://penstock-media/0a/0b",
        "s3://tenant-b-private/payroll/2026.txt",
        "s3://terraform-state/prod.tfstate",
        "file:///etc/passwd",
    ],
)
def test_without_a_rule_no_bucket_and_no_file_is_read(uri: str) -> None:
    assert not is_allowed(FetchRules(FetchSettings()), uri, "acme")
    assert is_allowed(FetchRules(FetchSettings()), "https://example.org/a.png", "acme")
    assert not is_allowed(FetchRules(FetchSettings(allow_public=False)), "https://example.org/a.png", "acme")


def test_a_bucket_is_of_the_tenants_of_its_rule_below_its_prefix() -> None:
    rule = FetchRule(tenants=("acme",), scheme="s3", bucket="media", prefix="acme/in")
    rules = FetchRules(FetchSettings(allow=(rule,)))
    assert is_allowed(rules, "s3://media/acme/in/a.png", "acme")
    for tenant, uri in (
        ("globex", "s3://media/acme/in/a.png"),
        ("acme", "s3://media/globex/in/a.png"),
        ("acme", "s3://media/acme/in"),
        ("acme", "s3://media/acme/internal/a.png"),
        ("acme", "s3://media/acme/in/../../globex/a.png"),
        ("acme", "s3://media/acme/in/%2e%2e/x"),
        ("acme", "s3://media2/acme/in/a.png"),
    ):
        assert not is_allowed(rules, uri, tenant), uri


@pytest.mark.parametrize(
    "path",
    ["/t/a/../../other/x", "/t/%2e%2e/x", "/t/..%2fx", "/t/a%2f..%2f..%2fx", "/t/a/%252e%252e/x", "/t/..\\x", "/tx/a",
     "/t/%5c..%5cx", "//t/x", "/t", "/T/x"],
)  # fmt: skip
def test_no_spelling_of_a_path_leaves_its_prefix(path: str) -> None:
    rules = FetchRules(FetchSettings(allow=(web("h.example", prefix="/t"),), allow_public=False))
    assert not is_allowed(rules, f"https://h.example{path}", "acme")


@given(st.lists(st.sampled_from(["..", ".", "t", "%2e", "%2f", "%5c", "a", "", "%25", "2e", "\\"]), max_size=8))
def test_what_is_read_behind_a_prefix_lies_below_it(parts: list[str]) -> None:
    rules = FetchRules(FetchSettings(allow=(web("h.example", prefix="/t"),), allow_public=False))
    uri = "https://h.example/" + "/".join(parts)
    if is_allowed(rules, uri, "acme"):
        sent = httpx.URL(uri).raw_path.decode()
        assert sent.startswith("/t/")
        assert ".." not in sent.replace("%2e", ".").split("/")


def test_hosts_are_matched_whole_or_by_their_domain_with_or_without_a_port() -> None:
    rules = FetchRules(
        FetchSettings(allow=(web("one.example"), web("*.two.example"), web("three.example:8443")), allow_public=False)
    )
    for host in ("one.example", "ONE.example", "one.example.", "a.two.example", "three.example:8443"):
        assert is_allowed(rules, f"https://{host}/x", "acme"), host
    for host in ("one.example.evil", "xone.example", "two.example", "evil-two.example", "three.example"):
        assert not is_allowed(rules, f"https://{host}/x", "acme"), host
    assert not is_allowed(rules, "http://one.example/x", "acme")


def test_files_of_another_tenant_are_forbidden_whatever_the_path_looks_like(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], tmp_path: Path
) -> None:
    for tenant in ("a", "b"):
        (tmp_path / tenant).mkdir()
        (tmp_path / tenant / "x.png").write_bytes(PNG)
    (tmp_path / "a" / "link.png").symlink_to("../b/x.png")
    rules = [FetchRule(tenants=(tenant,), scheme="file", prefix=str(tmp_path / tenant)) for tenant in ("a", "b")]
    fetcher = fetcher_of(allow=rules)
    assert fetcher.fetch(of(event_of((tmp_path / "a" / "x.png").as_uri()), "a")).data == PNG
    for path in ("b/x.png", "a/../b/x.png", "a/link.png"):
        rejection = rejection_of(fetcher, of(event_of(f"file://{tmp_path}/{path}"), "a"))
        assert rejection.reason is Reason.FORBIDDEN


# --- where a connection goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
     "::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fd00:ec2::254", "224.0.0.1"],
)  # fmt: skip
def test_no_rule_allows_loopback_link_local_and_metadata(address: str) -> None:
    everywhere = [NEVER[0].supernet(new_prefix=0), NEVER[-1].supernet(new_prefix=0)]
    network = GuardedNetwork(resolver=lambda host, port: [address], allowed=everywhere)
    with pytest.raises(BadInputError, match="no claim check may lead"):
        network.connect_tcp("h", 80)


def test_a_rule_opens_its_networks_and_no_others(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]
) -> None:
    names = {"media.internal": ["10.1.2.3"], "db.internal": ["10.9.2.3"]}
    reached: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        reached.append(host)
        return names[host]

    rule = web("*.internal", scheme="http", networks=("10.1.0.0/16",))
    fetcher = fetcher_of(allow=(rule,), loopback=False, deadline_s=0.2, options={"resolver": resolve})
    assert rejection_of(fetcher, of(event_of("http://db.internal/x"), "acme")).reason is Reason.FORBIDDEN
    assert rejection_of(fetcher, of(event_of("http://media.internal/x"), "globex")).reason is Reason.FORBIDDEN
    assert rejection_of(fetcher, of(event_of("http://media.internal/x"), "acme")).reason is Reason.UNREACHABLE
    assert set(reached) == {"db.internal", "media.internal"}


def test_a_connection_of_one_rule_does_not_serve_a_tenant_whom_another_rule_allows_less(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    """Connections are kept open: without pools apart, the second tenant would reach the host over the first's."""
    server.routes["/a"] = send()
    rule = web("media.internal", scheme="http", networks=("127.0.0.0/8",))
    options = {"resolver": lambda host, port: ["127.0.0.1"], "never": ()}
    fetcher = fetcher_of(allow=(rule,), loopback=False, options=options)
    uri = server.url("/a", "media.internal")
    assert fetcher.fetch(of(event_of(uri), "acme")).data == PNG
    assert rejection_of(fetcher, of(event_of(uri), "globex")).reason is Reason.FORBIDDEN
    assert len(server.requests) == 1


def test_a_redirect_needs_a_rule_of_its_own(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes.update({"/in/a": redirect("/internal-admin"), "/internal-admin": send()})
    rule = web("media.internal", scheme="http", networks=("127.0.0.0/8",), prefix="/in")
    options = {"resolver": lambda host, port: ["127.0.0.1"], "never": ()}
    fetcher = fetcher_of(allow=(rule,), loopback=False, options=options)
    rejection = rejection_of(fetcher, of(event_of(server.url("/in/a", "media.internal")), "acme"))
    assert rejection.reason is Reason.FORBIDDEN
    assert server.requests == ["/in/a"]


def test_penstocks_own_services_are_refused_under_any_name() -> None:
    settings = load_settings(
        kafka={"bootstrap_servers": "kafka-0:9092,kafka-1:9092,[2600::9]:9092"},
        store={"uri": "https://milvus.internal:19530"},
        ray_address="ray://head:10001",
        limits={"redis_url": "redis://user:secret@redis.internal:6379"},
    )
    expected = {"kafka-0", "kafka-1", "2600::9", "milvus.internal", "head", "redis.internal"}
    assert set(own_hosts(settings)) >= expected
    names = {"kafka-0": ["20.0.0.1"], "alias": ["::ffff:20.0.0.1"], "other": ["20.0.0.2"]}
    now = [0.0]

    def resolve(host: str, port: int) -> list[str]:
        if host not in names:
            raise OSError("no such name")
        return names[host]

    own = OwnServices(own_hosts(settings), resolver=resolve, clock=lambda: now[0])
    network = GuardedNetwork(resolver=resolve, own=own)
    for host in ("kafka-0", "alias"):
        with pytest.raises(BadInputError, match="own services"):
            network.check(host, 80)
    network.check("other", 80)
    names["kafka-0"] = ["20.0.0.2"]
    now[0] += 60
    with pytest.raises(BadInputError, match="own services"):
        network.check("other", 80)


def test_a_local_file_as_the_store_is_no_host() -> None:
    assert own_hosts(load_settings(store={"uri": "/data/milvus.db"})) == ()


# --- certificates, credentials, the proxy ----------------------------------------------------------------------------


def test_credentials_go_to_their_own_place_alone(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], tmp_path: Path
) -> None:
    """A server of https with a certificate of its own redirects to a foreign one, which must not get them."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = "subjectAltName=DNS:media.internal,DNS:other.internal"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=media.internal",
         "-addext", names, "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "token").write_text("Bearer first\n")
    seen: list[tuple[str, str | None]] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)

        def serve() -> None:
            for _ in range(3):
                raw, _address = listener.accept()
                with closing(context.wrap_socket(raw, server_side=True)) as connection:
                    lines = connection.recv(65_536).decode().split("\r\n")
                    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                    host = headers["host"].partition(":")[0]
                    seen.append((host, headers.get("authorization")))
                    away = f"HTTP/1.1 302 x\r\nLocation: https://other.internal:{port}/b\r\n"
                    answer = away if host == "media.internal" and len(seen) == 1 else "HTTP/1.1 200 x\r\n"
                    body = b"" if answer is away else PNG
                    connection.sendall(
                        f"{answer}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                    )

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        trust: dict[str, Any] = {"networks": ("127.0.0.0/8",), "ca_file": certificate}
        rules = (
            web("media.internal", credentials_file=tmp_path / "token", **trust),
            web("other.internal", **trust),
        )
        options = {"resolver": lambda host, port: ["127.0.0.1"], "never": ()}
        fetcher = fetcher_of(allow=rules, loopback=False, options=options)
        event = of(event_of(f"https://media.internal:{port}/a"), "acme")
        assert fetcher.fetch(event).data == PNG
        (tmp_path / "token").write_text("Bearer second\n")
        assert fetcher.fetch(event).data == PNG
        thread.join(10)
    assert seen == [("media.internal", "bearer first"), ("other.internal", None), ("media.internal", "bearer second")]


def test_certificates_that_cannot_be_read_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        ClaimCheckReader(FetchSettings(allow=(web("h", ca_file=tmp_path / "absent.pem"),)))


def test_a_proxy_gets_the_requests_and_internal_addresses_are_refused_before_it(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["http://media.example/a"] = send()
    names = {"127.0.0.1": ["127.0.0.1"], "inner.example": ["10.0.0.1"]}

    def resolve(host: str, port: int) -> list[str]:
        if host not in names:
            raise OSError("only the proxy knows it")
        return names[host]

    fetcher = fetcher_of(loopback=False, proxy=server.url(""), options={"resolver": resolve})
    assert fetcher.fetch(event_of("http://media.example/a")).data == PNG
    assert rejection_of(fetcher, event_of("http://inner.example/a")).reason is Reason.FORBIDDEN
    assert server.requests == ["http://media.example/a"]


# --- what is kept and shown ------------------------------------------------------------------------------------------


def test_the_signature_of_an_address_is_not_kept() -> None:
    rules = FetchRules(FetchSettings(allow=(web("cms.example", keep_query=True),)))
    signed = "https://acme-hr.s3.example/salaries.txt?X-Amz-Credential=AKIA&X-Amz-Signature=abc#p1"
    assert rules.stored_uri(signed, "acme") == "https://acme-hr.s3.example/salaries.txt"
    assert rules.stored_uri("https://cms.example/get?id=7#top", "acme") == "https://cms.example/get?id=7"
    assert rules.stored_uri("https://cms.example/get?id=7", "globex") == "https://cms.example/get"
    assert rules.stored_uri("s3://b/a%20b.png", "acme") == "s3://b/a%20b.png"


def test_addresses_of_internal_places_are_shown_by_choice(tmp_path: Path) -> None:
    rules = FetchRules(
        FetchSettings(
            allow=(
                web("media.internal", networks=("10.0.0.0/8",)),
                web("wiki.internal", networks=("10.0.0.0/8",), show=True),
                FetchRule(tenants=("acme",), scheme="file", prefix=str(tmp_path / "open"), show=True),
                FetchRule(tenants=("acme",), scheme="file", prefix=str(tmp_path / "closed")),
            )
        )
    )
    for uri in ("https://wiki.internal/a", "https://example.org/a", (tmp_path / "open/a").as_uri(), "asset:00"):
        assert rules.shows(uri, "acme"), uri
    for uri in ("https://media.internal/a", (tmp_path / "closed/a").as_uri(), "s3://bucket/a", "data:x", "ftp://h/x"):
        assert not rules.shows(uri, "acme"), uri
    assert not rules.shows((tmp_path / "open/a").as_uri(), "globex")


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"scheme": "s3"}, "names a bucket"),
        ({"scheme": "https"}, "names a host"),
        ({"scheme": "file", "prefix": "relative"}, "absolute path"),
        ({"scheme": "s3", "bucket": "b", "networks": ["10.0.0.0/8"]}, "networks are of http"),
        ({"scheme": "https", "host": "h", "networks": ["10.0.0.1/8"]}, "host bits set"),
        ({"scheme": "http", "host": "h", "credentials_env": "TOKEN"}, "in the clear"),
        ({"scheme": "s3", "bucket": "b", "credentials_env": "KEY=x"}, "environment variable"),
        ({"scheme": "gopher", "host": "h"}, "'http', 'https', 's3' or 'file'"),
        ({"scheme": "s3", "bucket": "b", "tenants": []}, "at least 1 item"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(fetch={"allow": [{"tenants": ["acme"], **rule}]})


@pytest.mark.parametrize("name", ["allowed_roots", "allowed_schemes", "allow_private_addresses"])
def test_a_setting_that_rules_replaced_says_how_to_write_it(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"fetch\.{name} was replaced by rules \(fetch\.allow\)"):
        load_settings(fetch={name: []})
