"""Turns the JSON of a question into a request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import replace

from penstock.errors import QueryError
from penstock.query.generate.types import AskRequest
from penstock.query.understand.understand_options import MAX_MESSAGES
from penstock.query.understand.understood import ChatMessage
from penstock.records import Access
from penstock.serve.schemas.ask_request import AskBody, AskFields, AskMessageBody, ImagePart, MessagePart
from penstock.serve.search_request import search_request

MAX_IMAGES = 8
_DATA_URL = "data:image/"


def ask_request(body: AskBody, access: Access, *, max_image_bytes: int) -> AskRequest:
    """Returns the request of a body.

    Args:
        body: as the client sent it.
        access: what its principal may read of the tenant that the body names.
        max_image_bytes: of one image.

    Raises:
        QueryError: for too many or too large images, for invalid base64 or Unicode, and for a filter that cannot be
            evaluated.
    """
    return question_request(
        body,
        access,
        body.messages or [],
        question=body.question,
        max_image_bytes=max_image_bytes,
    )


def question_request(
    fields: AskFields,
    access: Access,
    messages: Sequence[AskMessageBody],
    *,
    question: str | None,
    max_image_bytes: int,
) -> AskRequest:
    """Returns the request of a question with the conversation before it. Args and errors as of `ask_request`.

    Args:
        fields: of the search and of the answer.
        access: as of `ask_request`.
        messages: the conversation; its last message is the question if that is None.
        question: in words.
        max_image_bytes: as of `ask_request`.
    """
    if len(messages) > MAX_MESSAGES:
        raise QueryError(
            f"there are {len(messages)} messages, and at most {MAX_MESSAGES} are allowed",
            status=422,
            field="/messages",
        )
    search = search_request(fields, access)
    images = _images(messages, already=search.image is not None, max_bytes=max_image_bytes)
    of_question = images[-1] if question is None and messages else []
    if search.image is None and of_question:
        search = replace(search, image=of_question[0])
    elif search.image is not None:
        of_question = [search.image, *of_question]
    return AskRequest(
        question=question if question is not None or messages else fields.text,
        search=search,
        messages=tuple(ChatMessage(message.role, words_of(message)) for message in messages),
        generator=fields.generator,
        max_sources=fields.max_sources,
        profile=fields.profile or {},
        answer_in=fields.answer_in,
        images=tuple(of_question),
    )


def words_of(message: AskMessageBody) -> str:
    """Returns the words of a message, those of its parts on lines of their own."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if not isinstance(part, ImagePart) and part.text)


def _images(messages: Sequence[AskMessageBody], *, already: bool, max_bytes: int) -> list[list[bytes]]:
    """Returns the images of each message. `already`: there is one beside them."""
    images: list[list[bytes]] = []
    count = int(already)
    for place, message in enumerate(messages):
        images.append([])
        parts = message.content if not isinstance(message.content, str) else []
        for number, part in _image_parts(parts):
            field = f"/messages/{place}/content/{number}/image_url/url"
            count += 1
            if count > MAX_IMAGES:
                raise QueryError(f"there are more than {MAX_IMAGES} images", status=422, field=field)
            images[-1].append(_decoded(part.image_url.url, field, max_bytes))
    return images


def _image_parts(parts: Sequence[MessagePart]) -> Iterator[tuple[int, ImagePart]]:
    for number, part in enumerate(parts):
        if isinstance(part, ImagePart):
            yield number, part


def _decoded(url: str, field: str, max_bytes: int) -> bytes:
    """Returns the bytes of a data URL. No address is ever read: it may be an internal one."""
    head, _, encoded = url.partition(",")
    if not (head.startswith(_DATA_URL) and head.endswith(";base64")):
        raise QueryError(
            "an image is sent as a data URL, data:image/jpeg;base64,…; addresses are not read",
            status=422,
            field=field,
        )
    if len(encoded) // 4 * 3 > max_bytes + 2:
        raise QueryError(
            f"the image has more than the maximum of {max_bytes:,} bytes (setting query.max_image_bytes)",
            status=413,
            field=field,
        )
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise QueryError(f"the image is not base64: {exc}", status=422, field=field) from exc
