"""Checks the metrics endpoint: TLS, client certificates, the token, and the hosts that it answers to."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from penstock.cli.remote_ingest import scrape_all
from penstock.config import MetricsSettings, load_settings
from penstock.errors import UnavailableError
from penstock.observability.exposition import endpoint_of
from penstock.observability.node_server import NodeServer, TlsFiles
from tests.secured_kafka import Certificates, key_without_password


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def opened() -> Iterator[list[NodeServer]]:
    servers: list[NodeServer] = []
    yield servers
    for server in servers:
        server.close()


def serve(opened: list[NodeServer], folder: Path, tls: TlsFiles | None = None, host: str = "127.0.0.1") -> str:
    opened.append(NodeServer(folder, CollectorRegistry(), host, 0, tls))
    return f"{'http' if tls is None else 'https'}://127.0.0.1:{opened[-1].port}/metrics"


def trusting(files: Certificates, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.ca)
    if key is not None:
        context.load_cert_chain(files.client_cert, key)
    return context


def test_metrics_are_served_by_tls(files: Certificates, tmp_path: Path, opened: list[NodeServer]) -> None:
    url = serve(opened, tmp_path, TlsFiles(files.broker, files.broker))
    assert httpx.get(url, verify=trusting(files)).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with pytest.raises(httpx.HTTPError):
        httpx.get(url.replace("https", "http"))
    assert httpx.get(url, verify=trusting(files)).status_code == 200


def test_clients_have_to_show_a_certificate(files: Certificates, tmp_path: Path, opened: list[NodeServer]) -> None:
    url = serve(opened, tmp_path, TlsFiles(files.broker, files.broker, files.ca))
    key = key_without_password(files, tmp_path / "key.pem")
    assert httpx.get(url, verify=trusting(files, key)).status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.get(url, verify=trusting(files))


def test_a_changed_certificate_is_served_without_a_restart(tmp_path: Path, opened: list[NodeServer]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    former, latter = Certificates.make(tmp_path / "a"), Certificates.make(tmp_path / "b")
    served = tmp_path / "served.pem"
    served.write_bytes(former.broker.read_bytes())
    url = serve(opened, tmp_path, TlsFiles(served, served))
    assert httpx.get(url, verify=trusting(former)).status_code == 200
    served.write_bytes(latter.broker.read_bytes())
    os.utime(served, ns=(1, 1))  # a clock that is coarse must not hide the change
    assert httpx.get(url, verify=trusting(latter)).status_code == 200
    served.write_text("half of a change")
    os.utime(served, ns=(2, 2))
    assert httpx.get(url, verify=trusting(latter)).status_code == 200


def test_files_that_are_no_certificate_are_refused(tmp_path: Path, opened: list[NodeServer]) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(OSError, match=r"PEM|lib"):
        serve(opened, tmp_path, TlsFiles(tmp_path / "x", tmp_path / "x"))


def test_on_loopback_only_the_names_of_loopback_are_answered_to(tmp_path: Path, opened: list[NodeServer]) -> None:
    url = serve(opened, tmp_path)
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={"Host": "localhost:8601"}).status_code == 200
    for name in ("rebind.evil.example", "[", "[::1", ":8601"):
        refused = httpx.get(url, headers={"Host": name})
        assert (refused.status_code, refused.content) == (421, b"")
    for_others = serve(opened, tmp_path, host="0.0.0.0")
    assert httpx.get(for_others, headers={"Host": "node-1:8601"}).status_code == 200


TOKEN = "t" * 32


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An endpoint whose token is in a file."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    endpoint = endpoint_of(tmp_path / "metrics", MetricsSettings(port=0, token_file=file))
    endpoint.ensure()
    yield endpoint.url.removesuffix("/metrics"), file
    endpoint.close()


def get(url: str, credentials: str | None) -> httpx.Response:
    return httpx.get(url, headers={} if credentials is None else {"Authorization": credentials})


@pytest.mark.parametrize("path", ["/metrics", "/", "/status", "/nothing"])
@pytest.mark.parametrize("credentials", [None, "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é", TOKEN])
def test_all_but_the_probes_needs_the_token(guarded: tuple[str, Path], path: str, credentials: str | None) -> None:
    refused = httpx.get(
        guarded[0] + path, headers=[] if credentials is None else [(b"Authorization", credentials.encode())]
    )
    assert (refused.status_code, refused.headers["www-authenticate"], refused.content) == (401, "Bearer", b"")


def test_the_token_opens_the_endpoint_and_a_changed_one_counts_from_the_next_request(
    guarded: tuple[str, Path],
) -> None:
    url, file = guarded
    assert get(f"{url}/metrics", f"Bearer {TOKEN}").status_code == 200
    file.write_text("u" * 32)
    assert get(f"{url}/metrics", f"Bearer {TOKEN}").status_code == 401
    assert get(f"{url}/metrics", "bearer " + "u" * 32).status_code == 200
    file.unlink()
    assert get(f"{url}/metrics", "Bearer " + "u" * 32).status_code == 401


def test_probes_are_open_and_give_strangers_no_reasons(guarded: tuple[str, Path]) -> None:
    url, _ = guarded
    assert (get(f"{url}/readyz", None).status_code, get(f"{url}/readyz", None).json()) == (404, {})
    assert get(f"{url}/readyz", f"Bearer {TOKEN}").json()["reasons"]


def test_status_sends_the_token_of_the_settings(guarded: tuple[str, Path]) -> None:
    url, file = guarded
    settings = load_settings(metrics=MetricsSettings(token_file=file))
    assert scrape_all([url], settings).at_s > 0
    with pytest.raises(UnavailableError, match="401"):
        scrape_all([url], load_settings())
