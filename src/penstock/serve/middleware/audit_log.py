"""Records each request in the audit log, with the principal that the authentication behind this middleware found."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.auth import Principal
from penstock.observability.audit_log import AuditLog, AuditNote, AuditRecord, Outcome, begin_note

ACTIONS: Mapping[str, str | None] = {
    "/v1/search": "search",
    "/v1/ask": "ask",
    "/v1/ask/{answer_id}": "answer",
    "/v1/chat/completions": "ask",
    "/v1/models": "models",
    "/v1/models/{model}": "models",
    "/v1/check": "check",
    "/v1/suggest": "suggest",
    "/v1/entries/{entry_id}/thumbnail": "thumbnail",
    "/v1/media/{sha256}": "media",
    "/v1/media/{sha256}/entries": "entries",
    "/v1/media/{sha256}/captions.vtt": "captions",
    "/v1/live": "live",
    "/v1/events": "events",
    "/v1/watches": "watches",
    "/v1/watches/{watch_id}": "watches",
    "/v1/status": "status",
    "/mcp": "mcp",
    # Probes every few seconds, and what the page consists of, are of no interest.
    "/healthz": None,
    "/livez": None,
    "/readyz": None,
    "/": None,
    "/web/{version}/{name}": None,
    "/docs": None,
    "/openapi.json": None,
}
"""The action of each route; None: its requests are not recorded. A route without one is recorded by its path."""

_REFUSED = frozenset((401, 403, 429))
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestAudit:
    """Middleware that writes one line for each request, once its answer has ended or its client has gone.

    It stands outside the authentication, so that what is refused is recorded, too. The answer has the id of the request
    in the header `X-Request-ID`.

    Args:
        app: the application behind it.
        log: the audit log.
        clock: seconds, monotonic.
    """

    def __init__(self, app: ASGIApp, *, log: AuditLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._log = log
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, and records the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, request_id, noted = self._clock(), request_id_of(scope), begin_note()
        scope.setdefault("state", {})
        status, ended = 500, False  # the server's answer to an exception that leaves this middleware

        async def observed(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
            await send(message)
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body", False))

        raised = True
        try:
            await self._app(scope, receive, observed)
            raised = False
        finally:
            outcome: Outcome = "failed" if raised and status >= 500 else outcome_of(status, ended=ended)
            took_ms = (self._clock() - began_s) * 1000
            self._record(scope, noted, request_id=request_id, status=status, outcome=outcome, took_ms=took_ms)

    def _record(
        self, scope: Scope, noted: AuditNote, *, request_id: str, status: int, outcome: Outcome, took_ms: float
    ) -> None:
        path = getattr(scope.get("route"), "path", None) or scope["path"]
        action = ACTIONS.get(path, path)
        if action is None and status not in (401, 403):
            return
        noted.target = {name: str(value) for name, value in scope.get("path_params", {}).items()}
        state = scope["state"].get("principal")
        principal = state if isinstance(state, Principal) else None  # else why there is none
        self._log.record(
            AuditRecord(
                action or path,
                outcome,
                None if principal is None else principal.subject,
                noted,
                key_id=None if principal is None else principal.key_id,
                status=status,
                request_id=request_id,
                took_ms=took_ms,
            )
        )


def outcome_of(status: int, *, ended: bool) -> Outcome:
    """Returns the outcome of a request by the status of its answer, and by whether the answer ended."""
    if status >= 500:
        return "failed"
    if status in _REFUSED:
        return "refused"
    if status >= 400:
        return "invalid"
    return "ok" if ended else "cut"


def request_id_of(scope: Scope) -> str:
    """Returns the id of the trace that the request is part of, else its `X-Request-ID`, else a new one."""
    headers = dict(scope["headers"])
    if traced := _TRACEPARENT.match(headers.get(b"traceparent", b"")):
        return traced[1].decode()
    named = headers.get(b"x-request-id", b"")
    return named.decode() if _REQUEST_ID.fullmatch(named) else secrets.token_hex(16)
