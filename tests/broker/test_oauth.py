"""Checks where tokens of OAUTHBEARER come from, how long one is used, and the refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import errors

from penstock.broker.oauth import ClientCredentials, FileTokens, TokenRefusedError, token_provider
from penstock.config import KafkaOAuthSettings
from tests.token_issuer import TokenEndpoint, token_endpoint


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with token_endpoint() as endpoint:
        yield endpoint


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def by_credentials(endpoint: TokenEndpoint, secret: Path, **more: Any) -> KafkaOAuthSettings:
    secret.write_text("one")
    fields = {"token_url": endpoint.url, "client_id": "penstock", "client_secret_file": secret}
    return KafkaOAuthSettings.model_validate(fields | more)


def test_a_token_is_used_for_most_of_its_life(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    clock = Clock()
    tokens = ClientCredentials(by_credentials(endpoint, tmp_path / "s", scope="kafka read"), clock)
    assert [tokens.token(), tokens.token()] == ["token", "token"]
    assert endpoint.requests == [("penstock", {"grant_type": ["client_credentials"], "scope": ["kafka read"]})]
    endpoint.document = {"access_token": "next", "expires_in": 100}
    clock.now_s = 79
    assert tokens.token() == "token"
    clock.now_s = 80
    assert tokens.token() == "next"


def test_a_token_that_a_broker_refused_is_not_used_again(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    tokens = ClientCredentials(by_credentials(endpoint, tmp_path / "s"))
    tokens.token()
    endpoint.document = {"access_token": "next"}
    tokens.forget()
    assert tokens.token() == "next"


def test_clients_of_a_process_share_a_token(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    settings = by_credentials(endpoint, tmp_path / "s")
    threads = [threading.Thread(target=token_provider(settings).token) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoint.requests) == 1


def test_a_changed_secret_is_read_for_the_next_token(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    tokens = ClientCredentials(by_credentials(endpoint, tmp_path / "s"))
    tokens.token()
    endpoint.secrets["penstock"] = "two"
    tokens.forget()
    with pytest.raises(TokenRefusedError, match=r"refuses the client penstock \(HTTP 401\)\. Check .*client_secret"):
        tokens.token()
    (tmp_path / "s").write_text("two\n")
    assert tokens.token() == "token"


@pytest.mark.parametrize("document", [{}, {"access_token": ""}, {"access_token": "a b"}, {"access_token": "a\x01"}, []])
def test_an_answer_without_a_token_is_refused(endpoint: TokenEndpoint, tmp_path: Path, document: Any) -> None:
    endpoint.document = document
    with pytest.raises(TokenRefusedError, match=r"without a token|has no token"):
        ClientCredentials(by_credentials(endpoint, tmp_path / "s")).token()


def test_an_endpoint_that_is_away_is_tried_again(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    tokens = ClientCredentials(by_credentials(endpoint, tmp_path / "s"))
    endpoint.status = 503
    with pytest.raises(errors.KafkaConnectionError, match="HTTP 503"):
        tokens.token()
    endpoint.status = 200
    assert tokens.token() == "token"
    away = by_credentials(endpoint, tmp_path / "s", token_url="http://127.0.0.1:1/token")
    with pytest.raises(errors.KafkaConnectionError, match="does not answer"):
        ClientCredentials(away).token()


def test_the_token_of_a_file_is_read_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    tokens = FileTokens(KafkaOAuthSettings(token_file=file))
    with pytest.raises(TokenRefusedError, match="No such file"):
        tokens.token()
    file.write_text("one\n")
    assert tokens.token() == "one"
    file.write_text("two\n")
    assert tokens.token() == "two"
    file.write_text("\n")
    with pytest.raises(TokenRefusedError, match="has no token"):
        tokens.token()
