"""Signs tokens as an identity provider does, and serves a token endpoint on loopback."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "kafka"


class TokenIssuer:
    """Signs tokens (RS256) with a key of its own, whose public half is in a file of keys (JWKS).

    Args:
        jwks: the file.
    """

    def __init__(self, jwks: Path) -> None:
        self.jwks = jwks
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key().public_numbers()
        size = (public.n.bit_length() + 7) // 8
        key = {
            "kty": "RSA",
            "kid": "1",
            "use": "sig",
            "alg": "RS256",
            "n": _base64(public.n.to_bytes(size, "big")),
            "e": _base64(public.e.to_bytes(3, "big")),
        }
        jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, subject: str, *, life_s: float = 300.0, **claims: object) -> str:
        """Returns a token about a subject."""
        now_s = int(time.time())
        payload = {"sub": subject, "aud": AUDIENCE, "iat": now_s, "exp": now_s + int(life_s), "scope": "kafka"} | claims
        signed = f"{_json({'alg': 'RS256', 'kid': '1', 'typ': 'JWT'})}.{_json(payload)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


class TokenEndpoint:
    """A token endpoint, its answers and the requests that it received.

    Attributes:
        url: its address.
        secrets: the secret of each client.
        document, status: of its answers to clients that it knows.
        requests: the client and the form of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.secrets = {"penstock": "one"}
        self.document: dict[str, Any] = {"access_token": "token", "expires_in": 100}
        self.status = 200
        self.requests: list[tuple[str, dict[str, list[str]]]] = []

    def answer(self, authorization: str, form: str) -> tuple[int, dict[str, Any]]:
        client, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        self.requests.append((client, parse_qs(form)))
        if self.secrets.get(client) != secret:
            return 401, {"error": "invalid_client"}
        return self.status, self.document


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """Yields an endpoint that listens on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, document = endpoint.answer(self.headers["Authorization"], form)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = TokenEndpoint(f"http://127.0.0.1:{server.server_port}/token")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())
