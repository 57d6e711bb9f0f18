"""Checks bearer tokens of OpenID Connect, and reads the principal from their claims."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from jwt.algorithms import RSAAlgorithm
from jwt.types import Options

from penstock.auth.principal import Permission, Principal
from penstock.auth.provider_keys import Jwk, ProviderKeys
from penstock.config.oidc import OidcSettings
from penstock.errors import UsageError
from penstock.records import DEFAULT_LABEL

_log = logging.getLogger(__name__)

MAX_TOKEN_CHARS = 16_384  # HTTP servers bound a header at 8 to 64 KiB
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
MAX_LABELS = 1024
MAX_SECONDS = 253_402_300_800  # the year 10000; neither infinity nor "not a number" is below it
MAX_SUBJECT_CHARS = 255  # OpenID Connect Core 1.0, section 2
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}  # by the first letters of an algorithm
_LABEL = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")
_REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
_OPTIONS: Options = {
    "require": _REQUIRED,
    "verify_exp": False,  # times are checked by the clock that was handed in
    "verify_nbf": False,
    "verify_iat": False,
}


class InvalidTokenError(UsageError):
    """A token is not valid here. The message says which check failed; it never contains the token."""


class OidcTokens:
    """Checks tokens that a provider signed (RFC 7519, RFC 8725) and maps their claims to a principal.

    A token is a bearer token: its holder may send it again until it expires. Its `jti` is not kept.

    Args:
        settings: with issuer and audience.
        keys: of the provider.
        clock: seconds since the epoch.
    """

    def __init__(
        self, settings: OidcSettings, keys: ProviderKeys | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._keys = keys or ProviderKeys(settings)
        self._clock = clock

    def principal(self, token: str) -> Principal | None:
        """Returns the caller that a token proves; None: it is not valid here, and the log says why.

        Raises:
            UnavailableError: the provider's keys are not known, and it does not answer.
        """
        try:
            return self.verify(token)
        except InvalidTokenError as exc:
            _log.info("a token is refused: %s", exc)
            return None

    def waits(self, token: str) -> bool:
        """Returns whether `principal` may have to ask the provider for its keys: call it in a thread then."""
        try:
            return self._keys.must_fetch(_key_id(_header(token)))
        except InvalidTokenError:
            return False

    def verify(self, token: str) -> Principal:
        """Returns the principal of a token.

        Raises:
            InvalidTokenError: the token is not valid here.
            UnavailableError: the provider's keys are not known, and it does not answer.
        """
        header = _header(token)
        algorithm = header.get("alg")
        if algorithm not in self._settings.algorithms:
            raise InvalidTokenError("its signature algorithm is not accepted")
        claims = self._signed_claims(token, algorithm, self._keys.candidates(_key_id(header)))
        self._check_times(claims)
        if not 0 < len(claims["sub"]) <= MAX_SUBJECT_CHARS:
            raise InvalidTokenError(f"its sub is empty or longer than {MAX_SUBJECT_CHARS} characters")
        return self._principal(claims)

    def close(self) -> None:
        """Closes the connections to the provider."""
        self._keys.close()

    def _signed_claims(self, token: str, algorithm: str, candidates: tuple[Jwk, ...]) -> dict[str, Any]:
        """Returns the claims of a token that one of the keys signed for this audience."""
        problem = "no key of the provider signed it"
        for candidate in candidates:
            key = _key(candidate, algorithm)
            if key is None:
                continue
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._settings.audience,
                    issuer=self._settings.issuer,
                    options=_OPTIONS,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAudienceError:
                problem = "it is meant for another audience"
            except jwt.InvalidIssuerError:
                problem = "another provider issued it"
            except jwt.PyJWTError as exc:
                problem = f"it is not valid ({type(exc).__name__})"
            break
        raise InvalidTokenError(problem)

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._settings.leeway_s
        expires, issued, begins = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
        if expires is None or now >= expires + leeway:
            raise InvalidTokenError("it has expired")
        if issued is None or issued > now + leeway or (begins is not None and begins > now + leeway):
            raise InvalidTokenError("it is not valid yet")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        settings = self._settings
        tenants = _words(claims, settings.tenant_claim)
        permissions = _words(claims, settings.permissions_claim)
        labels = _words(claims, settings.groups_claim) or ()
        return Principal(
            subject=f"oidc:{claims['sub']}",
            tenants=frozenset(settings.default_tenants if tenants is None else tenants),
            permissions=frozenset(
                map(Permission, settings.default_permissions)
                if permissions is None
                else _permissions(permissions, settings.permissions_prefix)
            ),
            labels=frozenset({DEFAULT_LABEL, *(label for label in labels[:MAX_LABELS] if _LABEL.fullmatch(label))}),
        )


def _header(token: str) -> dict[str, Any]:
    """Returns the header of a token, which nothing has proven yet."""
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidTokenError(f"it is longer than {MAX_TOKEN_CHARS} characters")
    try:
        return jwt.get_unverified_header(token)
    except jwt.PyJWTError as exc:
        raise InvalidTokenError("it is no JSON Web Token") from exc


def _key_id(header: Mapping[str, Any]) -> str | None:
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise InvalidTokenError("its key id is no text")
    return key_id


def _key(jwk: Jwk, algorithm: str) -> jwt.PyJWK | None:
    """Returns the key for an algorithm; None if it is not for this algorithm, malformed or weak.

    The type of the key decides, not the token: so a public RSA key never serves as the secret of an HMAC.
    """
    if jwk.get("kty") != _KEY_TYPES[algorithm[:2]] or jwk.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key.Algorithm, RSAAlgorithm) and key.key.key_size < MIN_RSA_BITS:
        return None
    return key


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """Returns a time of a token in seconds since the epoch; None where it has none."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_SECONDS:
        raise InvalidTokenError(f"its {name} is no number")
    return float(value)


def _words(claims: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
    """Returns the values of a claim: of a list, or of words in a text as in `scope`; None where it is absent.

    A claim whose name has dots itself comes before one that is nested.
    """
    value: object = claims.get(path)
    if value is None and "." in path:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return None
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def _permissions(words: tuple[str, ...], prefix: str) -> frozenset[Permission]:
    known = {f"{prefix}{permission.value}": permission for permission in Permission}
    return frozenset(known[word] for word in words if word in known)
