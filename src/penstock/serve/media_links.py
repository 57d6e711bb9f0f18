"""Signs the paths of media, thumbnails and captions in answers.

    `LinkedRequests` (around all routes) ─► a request's links, for the caller that it has
    schemas ─► `link("/v1/media/ab12…", "media/ab12…", tenant)` ─► the path, signed where requests need credentials

The links of a request are in a context variable, as paths are made deep in the schemas of every answer.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.auth import MediaLinks, Principal


@dataclass(frozen=True, slots=True)
class _RequestLinks:
    """Signs links in the answer to one caller."""

    links: MediaLinks
    subject: str


_current: ContextVar[_RequestLinks | None] = ContextVar("request_links", default=None)


def link(path: str, name: str, tenant: str) -> str:
    """Returns the path of something of a tenant, signed if requests need credentials.

    Args:
        path: of the route, without a query.
        name: of the thing, as in `MediaLinks.sign`.
        tenant: its owner.
    """
    signer = _current.get()
    if signer is None:
        return path
    signed = signer.links.sign(name, tenant=tenant, subject=signer.subject)
    return f"{path}?tenant={quote(tenant, safe='')}&exp={signed.expires}&sig={signed.signature}"


def link_period() -> tuple[int, str] | None:
    """Returns what the links of an answer depend on besides its hits; None: they are not signed.

    Text with links that is kept may be sent again while this is equal.
    """
    signer = _current.get()
    return None if signer is None else (signer.links.expiry(), signer.links.subject_of(signer.subject))


class LinkedRequests:
    """Middleware that lets the answers to requests have signed links. It stands behind the authentication.

    Args:
        app: the application behind it.
        links: signs them; None: no answer has any, as media need no credentials.
    """

    def __init__(self, app: ASGIApp, *, links: MediaLinks | None) -> None:
        self._app = app
        self._links = links

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application with the links of the caller."""
        caller = scope.get("state", {}).get("principal") if scope["type"] == "http" else None
        if self._links is None or not isinstance(caller, Principal):
            await self._app(scope, receive, send)
            return
        token = _current.set(_RequestLinks(self._links, caller.subject))
        try:
            await self._app(scope, receive, send)
        finally:
            _current.reset(token)


def media_name(sha256: str) -> str:
    """Returns the name of media in the signature of a link."""
    return f"media/{sha256}"


def entry_name(entry_id: str) -> str:
    """Returns the name of an entry in the signature of a link."""
    return f"entry/{entry_id}"


def words_name(sha256: str, entry_id: str) -> str:
    """Returns the name of the words of one asset in the signature of a link.

    Other assets may have the same media and other labels, so that the hash alone does not name the words.

    Args:
        sha256: of the media of the asset.
        entry_id: an entry of the asset.
    """
    return f"words/{sha256}/{entry_id}"
