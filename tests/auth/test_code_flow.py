"""The code flow with PKCE at a real provider on loopback, as the page goes through it."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from penstock.auth import CodeFlow
from penstock.auth.code_flow import MAX_EXCHANGES
from penstock.auth.oidc import OidcTokens
from penstock.auth.provider_http import MIN_INTERVAL_S, ProviderHttp
from penstock.config.oidc import OidcSettings
from penstock.errors import OverloadedError, UnauthenticatedError, UnavailableError
from tests.auth.token_server import AUDIENCE, CLIENT_ID, TokenServer

PAGE = "http://127.0.0.1:8600/"
VERIFIER = "v" * 43


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


def settings(server: TokenServer) -> OidcSettings:
    return OidcSettings(issuer=server.issuer, audience=AUDIENCE, client_id=CLIENT_ID)


@pytest.fixture
def flow(server: TokenServer) -> Iterator[CodeFlow]:
    opened = CodeFlow(settings(server), OidcTokens(settings(server)))
    yield opened
    opened.close()


def code_of(flow: CodeFlow) -> str:
    """Goes to the provider as a browser does, and returns the code it comes back with."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": flow.client_id,
        "redirect_uri": PAGE,
        "state": "s",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    response = httpx.get(f"{flow.authorization_endpoint()}?{urlencode(query)}")
    return parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]


def test_a_code_becomes_a_token_that_is_accepted(server: TokenServer, flow: CodeFlow) -> None:
    token = flow.exchange(code_of(flow), verifier=VERIFIER, redirect_uri=PAGE)
    assert OidcTokens(settings(server)).verify(token).subject == "oidc:ada"


def test_a_code_is_exchanged_once_by_its_verifier_and_for_its_page(flow: CodeFlow) -> None:
    for verifier, page in (("w" * 43, PAGE), (VERIFIER, "http://127.0.0.1:9/")):
        with pytest.raises(UnauthenticatedError, match="did not accept"):
            flow.exchange(code_of(flow), verifier=verifier, redirect_uri=page)
    code = code_of(flow)
    flow.exchange(code, verifier=VERIFIER, redirect_uri=PAGE)
    with pytest.raises(UnauthenticatedError, match="did not accept"):
        flow.exchange(code, verifier=VERIFIER, redirect_uri=PAGE)


def test_a_token_for_another_audience_is_not_handed_on(server: TokenServer, flow: CodeFlow) -> None:
    server.claims["aud"] = "another"
    with pytest.raises(UnauthenticatedError, match=r"another audience.*auth\.oidc\.audience"):
        flow.exchange(code_of(flow), verifier=VERIFIER, redirect_uri=PAGE)


def test_a_provider_that_does_not_answer_is_unavailable(server: TokenServer, flow: CodeFlow) -> None:
    server.stop()
    with pytest.raises(UnavailableError):
        flow.authorization_endpoint()
    with pytest.raises(UnavailableError):
        flow.exchange("code", verifier=VERIFIER, redirect_uri=PAGE)


def test_a_failed_discovery_is_tried_again_after_30_seconds(server: TokenServer) -> None:
    now = [0.0]
    http = ProviderHttp(settings(server), clock=lambda: now[0])
    path = "/.well-known/openid-configuration"
    server.documents[path] = b"{}"
    for _ in range(3):
        with pytest.raises(UnavailableError):
            http.endpoint("token_endpoint")
    assert server.requests == [path]
    del server.documents[path]
    now[0] = MIN_INTERVAL_S
    assert http.endpoint("token_endpoint") == f"{server.issuer}/token"
    assert http.endpoint("token_endpoint") == f"{server.issuer}/token"
    assert server.requests == [path, path]
    http.close()


def test_the_last_document_answers_while_another_thread_fetches_it_again(server: TokenServer) -> None:
    now, held, began, go_on = [0.0], threading.Event(), threading.Event(), threading.Event()

    class Slow(ProviderHttp):
        def discovery(self) -> Mapping[str, object]:
            if held.is_set():
                began.set()
                go_on.wait(30)
            return super().discovery()

    http = Slow(settings(server), clock=lambda: now[0])
    expected = f"{server.issuer}/token"
    assert http.endpoint("token_endpoint") == expected
    now[0] = settings(server).refresh_s
    held.set()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(http.endpoint, "token_endpoint")
        assert began.wait(30)
        try:
            assert threads.submit(http.endpoint, "token_endpoint").result(timeout=10) == expected
            assert not first.done()
        finally:
            go_on.set()
        assert first.result(timeout=30) == expected
    assert len(server.requests) == 2
    http.close()


def test_more_than_some_concurrent_exchanges_are_refused(server: TokenServer) -> None:
    all_wait, go_on = threading.Barrier(MAX_EXCHANGES + 1), threading.Event()

    class Held(ProviderHttp):
        def endpoint(self, name: str) -> str:
            all_wait.wait(30)
            go_on.wait(30)
            raise UnavailableError("held")

    flow = CodeFlow(settings(server), OidcTokens(settings(server)), Held(settings(server)))

    def exchange() -> None:
        with pytest.raises(UnavailableError):
            flow.exchange("code", verifier=VERIFIER, redirect_uri=PAGE)

    threads = [threading.Thread(target=exchange) for _ in range(MAX_EXCHANGES)]
    for thread in threads:
        thread.start()
    all_wait.wait(30)
    with pytest.raises(OverloadedError):
        flow.exchange("code", verifier=VERIFIER, redirect_uri=PAGE)
    go_on.set()
    for thread in threads:
        thread.join()
