"""An OpenID Connect provider on loopback: discovery, keys, the code flow with PKCE, client credentials."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "penstock"
CLIENT_ID = "penstock-page"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class SigningKey:
    """A private key of the provider, and its public half as the provider publishes it."""

    def __init__(self, key_id: str, algorithm: str = "ES256", private: PrivateKey | None = None) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.private = private or _MAKERS[algorithm]()

    def public_jwk(self) -> dict[str, Any]:
        """Returns the public key in the form of RFC 7517."""
        jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.key_id, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """Returns a token with these claims; a header of None is left out."""
        present = {name: value for name, value in {"kid": self.key_id, **header}.items() if value is not None}
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=present)


class TokenServer:
    """A provider that answers on a port of loopback while its `with` block runs.

    Attributes:
        keys: that it publishes; the first signs.
        requests: the paths of its requests.
        claims: of the user who signs in by the code flow, over the standard ones.
    """

    def __init__(self, key: SigningKey | None = None) -> None:
        self.keys = [key or SigningKey("first")]
        self.requests: list[str] = []
        self.claims: dict[str, Any] = {"sub": "ada", "tenants": ["acme"], "permissions": ["search", "media", "ask"]}
        self.documents: dict[str, bytes] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops listening: connections are refused from then on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def issuer(self) -> str:
        """The address of the provider."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def token(self, key: SigningKey | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Returns a token that is valid now, but for the claims that are given; a claim of None is left out."""
        now = int(time.time())
        standard = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300}
        merged = {**standard, **self.claims, **claims}
        present = {name: value for name, value in merged.items() if value is not None}
        return (key or self.keys[0]).sign(present, **(header or {}))

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path in self.documents:
            return 200, {}, self.documents[path]
        if path == "/.well-known/openid-configuration":
            return _json(
                {
                    "issuer": self.issuer,
                    "jwks_uri": f"{self.issuer}/keys",
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "code_challenge_methods_supported": ["S256"],
                }
            )
        if path == "/keys":
            return _json({"keys": [key.public_jwk() for key in self.keys]})
        if path == "/authorize":
            return self._authorize(query)
        return 404, {}, b""

    def _authorize(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Signs its one user in without asking, and sends the browser back with a code."""
        if query.get("client_id") != CLIENT_ID or query.get("code_challenge_method") != "S256":
            return 400, {}, b"unknown client, or no challenge"
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        back = urlencode({"code": code, "state": query["state"]})
        return 302, {"Location": f"{query['redirect_uri']}?{back}"}, b""

    def _exchange(self, form: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Answers a code once, and only with the verifier of its challenge (RFC 7636)."""
        request = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            request is None
            or request["code_challenge"] != challenge
            or request["redirect_uri"] != form.get("redirect_uri")
        ):
            return _json({"error": "invalid_grant"}, 400)
        return _json({"access_token": self.token(), "token_type": "Bearer", "expires_in": 300})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                server.requests.append(parts.path)
                self._answer(*server._get(parts.path, _flat(parts.query)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.requests.append(self.path)
                self._answer(*(server._exchange(_flat(body)) if self.path == "/token" else (404, {}, b"")))

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                # A browser fetches keys and tokens for the page's origin.
                for name, value in {**headers, "Access-Control-Allow-Origin": "*"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _json(document: dict[str, Any], status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()
