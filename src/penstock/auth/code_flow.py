"""Signs users of the page in at an OpenID Connect provider, by the code flow with PKCE (RFC 7636).

    page ─► authorization endpoint ─► page, with a code ─► `exchange` ─► token endpoint ─► a token for this plane

The page makes the verifier and keeps it; the exchange goes through the query plane, so that the page needs to reach no
other host than its own.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from penstock.auth.oidc import InvalidTokenError, OidcTokens
from penstock.auth.provider_http import ProviderHttp
from penstock.config.oidc import OidcSettings
from penstock.errors import OverloadedError, UnauthenticatedError, UnavailableError

MAX_EXCHANGES = 8
"""Concurrent ones: strangers may send codes, and each takes a thread until the provider answers."""
_TOKENS = ("access_token", "id_token")  # the first that this plane accepts


class CodeFlow:
    """Exchanges the codes of a provider for tokens.

    Args:
        settings: with a `client_id`.
        tokens: decides which token of the provider is accepted.

    Attributes:
        client_id, scopes: of the settings.
        threads: in which to call it, as it may wait for the provider: strangers may call it, and other work shares the
            threads of the event loop.
    """

    def __init__(self, settings: OidcSettings, tokens: OidcTokens, http: ProviderHttp | None = None) -> None:
        self.client_id = settings.client_id or ""
        self.scopes = settings.scopes
        self._tokens = tokens
        self._http = http or ProviderHttp(settings)
        # Two more than exchange codes: to refuse others, and for the discovery document.
        self.threads = ThreadPoolExecutor(MAX_EXCHANGES + 2, thread_name_prefix="oidc-sign-in")
        self._free = threading.BoundedSemaphore(MAX_EXCHANGES)

    def authorization_endpoint(self) -> str:
        """Returns where the page sends its user. Raises UnavailableError if the provider does not answer."""
        return self._http.endpoint("authorization_endpoint")

    def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> str:
        """Returns the token of a user who was sent back with a code.

        Raises:
            UnauthenticatedError: the provider refuses the code, or none of its tokens is accepted here.
            UnavailableError: the provider does not answer.
            OverloadedError: too many codes are being exchanged.
        """
        if not self._free.acquire(blocking=False):
            raise OverloadedError("too many users sign in now", retry_after_s=1)
        try:
            answer = self._http.post(
                self._http.endpoint("token_endpoint"),
                {
                    "grant_type": "authorization_code",
                    "client_id": self.client_id,
                    "code": code,
                    "code_verifier": verifier,
                    "redirect_uri": redirect_uri,
                },
            )
        except ValueError as exc:  # answers 400 to a code that it does not know
            raise UnauthenticatedError(
                "the OpenID provider did not accept the sign-in: begin again", has_credentials=True
            ) from exc
        except httpx.HTTPError as exc:
            raise UnavailableError("the OpenID provider does not answer. Try again later") from exc
        finally:
            self._free.release()
        return self._accepted([token for name in _TOKENS if isinstance(token := answer.get(name), str)])

    def close(self) -> None:
        """Closes the connections to the provider, and begins no further call."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _accepted(self, tokens: list[str]) -> str:
        problem = "the OpenID provider gave no token"
        for token in tokens:
            try:
                self._tokens.verify(token)
            except InvalidTokenError as exc:
                problem = str(exc)
            else:
                return token
        raise UnauthenticatedError(
            f"the OpenID provider's token is not accepted: {problem}. Check auth.oidc.audience and auth.oidc.scopes",
            has_credentials=True,
        )
