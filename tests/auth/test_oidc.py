"""Tokens of a real provider on loopback: which are accepted, which never, and while the provider is unavailable."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.auth import Permission, Principal
from penstock.auth.oidc import InvalidTokenError, OidcTokens
from penstock.auth.provider_keys import MIN_REFRESH_INTERVAL_S, ProviderKeys
from penstock.config.oidc import PERMISSIONS, OidcSettings
from penstock.errors import UnavailableError
from tests.auth.token_server import AUDIENCE, SigningKey, TokenServer

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def server() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


@pytest.fixture(scope="module")
def rsa_key() -> SigningKey:
    return SigningKey("rsa", "RS256")


def settings(server: TokenServer, **changes: Any) -> OidcSettings:
    return OidcSettings(issuer=server.issuer, audience=AUDIENCE, **changes)


def verify(server: TokenServer, token: str, **changes: Any) -> Principal:
    return OidcTokens(settings(server, **changes)).verify(token)


def assert_refused(server: TokenServer, token: str, message: str, **changes: Any) -> None:
    with pytest.raises(InvalidTokenError, match=message) as refusal:
        verify(server, token, **changes)
    assert token not in str(refusal.value)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def kept(server: TokenServer, **changes: Any) -> Iterator[tuple[OidcTokens, Clock]]:
    """A verifier that lives through several tokens, and the clock of its keys."""
    chosen, clock = settings(server, **changes), Clock()
    verifier = OidcTokens(chosen, ProviderKeys(chosen, clock=clock))
    try:
        yield verifier, clock
    finally:
        verifier.close()


def test_a_valid_token_gives_the_principal_of_its_claims(server: TokenServer) -> None:
    principal = verify(server, server.token(groups=["hr", "two words", "tenant"]))
    assert principal == Principal(
        "oidc:ada",
        frozenset({"acme"}),
        frozenset({Permission.SEARCH, Permission.MEDIA, Permission.ASK}),
        frozenset({"tenant", "hr"}),
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_each_accepted_algorithm_verifies(algorithm: str) -> None:
    with TokenServer(SigningKey("only", algorithm)) as server:
        assert verify(server, server.token()).subject == "oidc:ada"


def test_the_audience_may_be_one_of_several(server: TokenServer) -> None:
    assert verify(server, server.token(aud=["other", AUDIENCE])).subject == "oidc:ada"


@pytest.mark.parametrize("audience", ["other", ["other"], AUDIENCE.upper(), AUDIENCE + "x"])
def test_another_audience_is_refused(server: TokenServer, audience: object) -> None:
    assert_refused(server, server.token(aud=audience), "another audience")


@pytest.mark.parametrize("audience", ["", [], 7, {"penstock": 1}, [["penstock"]]])
def test_a_malformed_audience_is_refused(server: TokenServer, audience: object) -> None:
    with pytest.raises(InvalidTokenError):
        verify(server, server.token(aud=audience))


@pytest.mark.parametrize("suffix", ["/", "/realms/other", "0"])
def test_another_issuer_is_refused(server: TokenServer, suffix: str) -> None:
    assert_refused(server, server.token(iss=server.issuer + suffix), "another provider issued")


@pytest.mark.parametrize("claim", ["exp", "iat", "iss", "aud", "sub"])
def test_a_token_without_a_required_claim_is_refused(server: TokenServer, claim: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify(server, server.token(**{claim: None}))


def test_the_clocks_may_differ_by_the_leeway_and_no_more(server: TokenServer) -> None:
    now = int(time.time())
    assert verify(server, server.token(exp=now - 50, nbf=now + 50)).subject == "oidc:ada"
    assert_refused(server, server.token(exp=now - 61), "expired")
    assert_refused(server, server.token(nbf=now + 70), "not valid yet")
    assert_refused(server, server.token(iat=now + 70), "not valid yet")


@pytest.mark.parametrize("expires", ["9999999999", True, float("inf"), float("nan"), [1], 10**40])
def test_an_expiry_that_is_no_time_is_refused(server: TokenServer, expires: object) -> None:
    with pytest.raises(InvalidTokenError):
        verify(server, server.token(exp=expires))


@pytest.mark.parametrize("subject", [7, "", "x" * 256, ["ada"]])
def test_a_subject_that_is_no_name_is_refused(server: TokenServer, subject: object) -> None:
    with pytest.raises(InvalidTokenError):
        verify(server, server.token(sub=subject))


def test_a_token_without_signature_is_refused(server: TokenServer) -> None:
    claims = jwt.decode(server.token(), options={"verify_signature": False})
    assert_refused(server, jwt.encode(claims, "", algorithm="none", headers={"kid": "first"}), "algorithm")
    head, body, _ = server.token().split(".")
    assert_refused(server, f"{head}.{body}.", "no key of the provider signed")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_public_key_is_no_secret_of_an_hmac(rsa_key: SigningKey, encoding: Encoding) -> None:
    with TokenServer(rsa_key) as server:
        public = rsa_key.private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        claims = jwt.decode(server.token(), options={"verify_signature": False})
        assert_refused(server, _hs256(claims, public, "rsa"), "algorithm")


def test_symmetric_algorithms_and_none_cannot_be_allowed(server: TokenServer) -> None:
    for algorithm in ("HS256", "HS384", "HS512", "none"):
        with pytest.raises(ValidationError):
            settings(server, algorithms=[algorithm])


def test_an_algorithm_that_is_not_listed_is_refused(server: TokenServer) -> None:
    assert_refused(server, server.token(), "algorithm", algorithms=["RS256"])


def test_a_key_serves_only_its_own_algorithm(rsa_key: SigningKey) -> None:
    with TokenServer(rsa_key) as server:
        claims = jwt.decode(server.token(), options={"verify_signature": False})
        token = jwt.encode(claims, rsa_key.private, algorithm="PS256", headers={"kid": "rsa"})
        assert_refused(server, token, "no key of the provider signed")


def test_a_short_rsa_key_is_refused() -> None:
    weak = SigningKey("weak", "RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    with TokenServer(weak) as server, pytest.warns(jwt.InsecureKeyLengthWarning):
        assert_refused(server, server.token(), "no key of the provider signed")


def test_a_foreign_key_of_the_same_id_is_refused(server: TokenServer) -> None:
    assert_refused(server, server.token(SigningKey("first")), "no key of the provider signed")


def test_headers_of_a_token_do_not_bring_keys_along(server: TokenServer) -> None:
    foreign = SigningKey("foreign")
    for header in ({"jwk": foreign.public_jwk()}, {"jku": f"{server.issuer}/evil"}, {"x5u": f"{server.issuer}/evil"}):
        server.requests.clear()
        assert_refused(server, server.token(foreign, header=header), "no key of the provider signed")
        assert "/evil" not in server.requests


def test_a_critical_header_that_is_not_understood_is_refused(server: TokenServer) -> None:
    with pytest.raises(InvalidTokenError):
        verify(server, server.token(header={"crit": ["exotic"], "exotic": 1}))


def test_a_token_without_key_id_is_tried_with_every_key(server: TokenServer) -> None:
    assert verify(server, server.token(header={"kid": None})).subject == "oidc:ada"


@given(st.one_of(st.text(max_size=200), st.lists(st.text(max_size=40), min_size=3, max_size=3).map(".".join)))
def test_no_text_makes_anything_but_a_refusal(text: str) -> None:
    unreached = OidcSettings(issuer="http://127.0.0.1:9", audience=AUDIENCE)
    with pytest.raises((InvalidTokenError, UnavailableError)):
        OidcTokens(unreached).verify(text)


def test_a_long_token_is_refused_before_it_is_read(server: TokenServer) -> None:
    assert_refused(server, server.token(groups=["g" * 20_000]), "longer than")


def test_a_token_may_be_sent_again_until_it_expires(server: TokenServer) -> None:
    """A bearer token is no one-time code: its jti is not kept. What ends it is its expiry."""

    clock = Clock()
    clock.now = time.time()
    with kept(server) as (verifier, _):
        timed = OidcTokens(settings(server), verifier._keys, clock=clock)
        token = server.token(jti="once")
        assert timed.verify(token) == timed.verify(token)
        clock.now += 300 + 61
        with pytest.raises(InvalidTokenError, match="expired"):
            timed.verify(token)


def test_a_rotated_key_is_fetched_when_its_first_token_comes() -> None:
    with TokenServer() as server, kept(server) as (verifier, clock):
        verifier.verify(server.token())
        server.keys = [SigningKey("second")]
        clock.now += MIN_REFRESH_INTERVAL_S
        verifier.verify(server.token())
        assert server.requests.count("/keys") == 2


def test_a_withdrawn_key_is_forgotten_behind_the_requests() -> None:
    with TokenServer() as server, kept(server, refresh_s=3600) as (verifier, clock):
        token = server.token()
        verifier.verify(token)
        server.keys = [SigningKey("second")]
        clock.now += 3600
        verifier.verify(token)  # answered by the old keys; starts the fetch
        assert verifier._keys._refreshing is not None
        verifier._keys._refreshing.join()
        with pytest.raises(InvalidTokenError, match="no key of the provider signed"):
            verifier.verify(token)


def test_unknown_keys_make_one_fetch_in_30_seconds() -> None:
    with TokenServer() as server, kept(server) as (verifier, clock):
        verifier.verify(server.token())
        foreign = [server.token(SigningKey(f"foreign-{number}")) for number in range(20)]
        for fetches in (1, 2):
            with ThreadPoolExecutor(8) as threads:
                assert list(threads.map(verifier.principal, foreign)) == [None] * 20
            assert not any(map(verifier.waits, foreign))
            assert server.requests.count("/keys") == fetches
            clock.now += MIN_REFRESH_INTERVAL_S


def test_concurrent_first_tokens_share_one_fetch() -> None:
    with TokenServer() as server, kept(server) as (verifier, _):
        tokens = [server.token() for _ in range(8)]
        assert all(map(verifier.waits, tokens))
        with ThreadPoolExecutor(8) as threads:
            assert None not in list(threads.map(verifier.principal, tokens))
        assert not any(map(verifier.waits, tokens))
        assert server.requests.count("/keys") == 1


def test_the_keys_are_used_for_days_while_the_provider_is_away() -> None:
    with TokenServer() as server, kept(server, stale_s=2 * DAY_S) as (verifier, clock):
        token = server.token()
        verifier.verify(token)
        server.stop()
        clock.now += DAY_S + 1
        assert verifier.verify(token).subject == "oidc:ada"
        clock.now += DAY_S
        with pytest.raises(UnavailableError, match="does not answer"):
            verifier.verify(token)


def test_a_provider_that_never_answered_is_unavailable() -> None:
    with TokenServer() as server:
        token = server.token()
        server.stop()
        with pytest.raises(UnavailableError, match="does not answer"):
            verify(server, token)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/"}),
        ("/.well-known/openid-configuration", {"issuer": None}),
        ("/.well-known/openid-configuration", ["no object"]),
        ("/keys", {"keys": []}),
        ("/keys", {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}),
        ("/keys", {"keys": "x" * (1024 * 1024)}),
    ],
)
def test_malformed_documents_of_the_provider_give_no_keys(path: str, document: object) -> None:
    with TokenServer() as server:
        server.documents[path] = json.dumps(document).encode()
        with pytest.raises(UnavailableError):
            verify(server, server.token())


def test_a_key_set_in_clear_off_loopback_is_not_fetched() -> None:
    with TokenServer() as server:
        discovery = {"issuer": server.issuer, "jwks_uri": "http://192.0.2.1/keys"}
        server.documents["/.well-known/openid-configuration"] = json.dumps(discovery).encode()
        with pytest.raises(UnavailableError):
            verify(server, server.token())


@pytest.mark.parametrize(
    ("claims", "changes"),
    [
        ({"realm_access": {"roles": ["penstock:search", "offline"]}}, {"permissions_claim": "realm_access.roles"}),
        ({"https://acme.example/roles": ["penstock:search"]}, {"permissions_claim": "https://acme.example/roles"}),
        ({"scope": "openid penstock:search email"}, {"permissions_claim": "scope"}),
    ],
)
def test_permissions_are_read_from_the_claim_of_the_settings(
    server: TokenServer, claims: dict[str, Any], changes: dict[str, Any]
) -> None:
    principal = verify(server, server.token(**claims), permissions_prefix="penstock:", **changes)
    assert principal.permissions == {Permission.SEARCH}


@pytest.mark.parametrize("value", [7, {"a": 1}, [], [7, None], True])
def test_a_claim_of_another_type_grants_nothing(server: TokenServer, value: object) -> None:
    token = server.token(tenants=value, permissions=value, groups=value)
    principal = verify(server, token, default_tenants=["acme"], default_permissions=["search"])
    assert (principal.tenants, principal.permissions) == (frozenset(), frozenset())
    assert principal.labels == {"tenant"}


def test_defaults_hold_where_the_claims_are_absent(server: TokenServer) -> None:
    token = server.token(tenants=None, permissions=None)
    assert verify(server, token).tenants == verify(server, token).permissions == frozenset()
    principal = verify(server, token, default_tenants=["acme"], default_permissions=["search"])
    assert principal.tenants == {"acme"}
    assert principal.permissions == {Permission.SEARCH}


@pytest.mark.parametrize(
    "issuer", ["http://idp.example", "https://user@idp.example", "https://idp.example?x=1", "ftp://idp.example", "idp"]
)
def test_an_issuer_in_clear_is_refused(issuer: str) -> None:
    with pytest.raises(ValidationError):
        OidcSettings(issuer=issuer, audience=AUDIENCE)


def test_the_settings_know_all_permissions() -> None:
    assert set(Permission) == PERMISSIONS


def _hs256(claims: dict[str, Any], secret: bytes, key_id: str) -> str:
    """Returns a token that PyJWT would refuse to make: an HMAC whose secret is a public key."""
    head = {"alg": "HS256", "typ": "JWT", "kid": key_id}
    signed = ".".join(_part(json.dumps(part).encode()) for part in (head, claims))
    return f"{signed}.{_part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
