"""Rejects request bodies that are too large before they are in memory."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.config import QuerySettings
from penstock.query.understand.understand_options import MAX_MESSAGE_CHARS, MAX_MESSAGES
from penstock.serve.problems import problem

# JSON may write a character as two escapes of six bytes each.
_CONVERSATION_BYTES = MAX_MESSAGES * MAX_MESSAGE_CHARS * 12
# Everything in a request but media and the conversation: the text, a filter, names.
_BESIDE_MEDIA_BYTES = 256 * 1024


def body_limit(settings: QuerySettings) -> int:
    """Returns the bytes of the largest request: media in base64 (4 bytes for 3) and the other fields.

    Several images of a question share the room of one image and one audio file.
    """
    media = settings.max_image_bytes, settings.max_audio_bytes
    return sum(-(-size // 3) * 4 for size in media) + _CONVERSATION_BYTES + _BESIDE_MEDIA_BYTES


class BodyLimit:
    """Middleware that answers 413 to a body over the limit, by its announced length or while it is received.

    Args:
        app: the application behind it.
        max_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application with a `receive` that counts bytes, unless the announced length is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._announced(scope) > self._max_bytes:
            response = problem(
                status=413, kind="http", title="Content Too Large", detail=self._detail(), instance=scope["path"]
            )
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._detail())
            return message

        await self._app(scope, counted, send)

    def _announced(self, scope: Scope) -> int:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0

    def _detail(self) -> str:
        settings = "settings query.max_image_bytes and query.max_audio_bytes"
        return f"the body may have at most {self._max_bytes:,} bytes ({settings})"
