"""Turns the JSON of a chat completion into a question."""

from __future__ import annotations

from penstock.auth import AccessOf
from penstock.errors import QueryError
from penstock.query.generate.types import AskRequest
from penstock.query.understand.understand_options import ROLES
from penstock.records import Access
from penstock.serve.ask_request import question_request
from penstock.serve.schemas.ask_request import AskFields, AskMessageBody, ImagePart, ImageUrl, MessagePart, TextPart
from penstock.serve.schemas.openai import MODEL, ChatBody, ChatMessageBody, ChatTextPart, UiPart

_TEXT_FORMAT = "text"
_IMAGE = "data:image/"


def chat_access(body: ChatBody, choose_access: AccessOf) -> Access:
    """Returns what a chat completion may read.

    Args:
        body: as the client sent it.
        choose_access: returns what its principal may read, by the tenant that the body names.

    Raises:
        ForbiddenError: the tenant is not one of the principal's.
        QueryError: the body names another model, wants what an answer never has, or names no tenant and has to.
    """
    _check(body)
    try:
        return choose_access(None if body.penstock is None else body.penstock.tenant)
    except QueryError as exc:
        raise QueryError(str(exc), status=exc.status, field=chat_pointer(exc.field, body)) from exc


def chat_request(body: ChatBody, access: Access, *, max_image_bytes: int) -> AskRequest:
    """Returns the request of a chat completion, whose fields keep their places in the pointers of errors.

    Args:
        body: as the client sent it.
        access: as of `ask_request`.
        max_image_bytes: of one image.

    Raises:
        QueryError: the body has no message that is answered, or is invalid as of `ask_request`.
    """
    places = [place for place, message in enumerate(body.messages) if message.role in ROLES]
    if not places:
        raise QueryError("there is no message of user or assistant", field="/messages")
    fields = AskFields() if body.penstock is None else body.penstock
    try:
        return question_request(
            fields,
            access,
            [_message(body.messages[place]) for place in places],
            question=None,
            max_image_bytes=max_image_bytes,
        )
    except QueryError as exc:
        raise QueryError(str(exc), status=exc.status, field=chat_pointer(exc.field, body)) from exc


def chat_pointer(field: str | None, body: ChatBody) -> str | None:
    """Returns the pointer into a chat completion for one into the question that it became."""
    if field is None:
        return None
    head, _, rest = field.removeprefix("/").partition("/")
    if head != "messages":
        return f"/penstock{field}" if body.penstock is not None and head in AskFields.model_fields else field
    number, _, rest = rest.partition("/")
    if not number.isdigit():
        return field
    places = [place for place, message in enumerate(body.messages) if message.role in ROLES]
    place = places[int(number)]
    rest = rest if body.messages[place].parts is None else rest.replace("content", "parts", 1)
    return f"/messages/{place}" + (f"/{rest}" if rest else "")


def _check(body: ChatBody) -> None:
    if body.model != MODEL:
        raise QueryError(f"there is no model {body.model!r}; there is {MODEL}", status=404, field="/model")
    if body.n not in (None, 1):
        raise QueryError("an answer has one choice: leave out n", status=422, field="/n")
    if body.response_format is not None and body.response_format.type != _TEXT_FORMAT:
        raise QueryError(
            "an answer is text whose sentences are checked: leave out response_format",
            status=422,
            field="/response_format/type",
        )


def _message(message: ChatMessageBody) -> AskMessageBody:
    if message.parts is not None:
        parts = [_ui_part(part) for part in message.parts]
        return AskMessageBody(role=message.role, content=parts)
    content = message.content
    if content is None or isinstance(content, str):
        return AskMessageBody(role=message.role, content=content or "")
    return AskMessageBody(
        role=message.role,
        content=[
            TextPart(type="text", text=part.text)
            if isinstance(part, ChatTextPart)
            else ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url.url))
            for part in content
        ],
    )


def _ui_part(part: UiPart) -> MessagePart:
    """Returns a part of the AI SDK's; what is neither words nor an image gives no words, and keeps its place."""
    if part.type == "file" and part.url is not None:
        return ImagePart(type="image_url", image_url=ImageUrl(url=part.url))
    return TextPart(type="text", text=part.text or "" if part.type == "text" else "")
