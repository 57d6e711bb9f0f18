"""Turns the JSON of a search into a request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from penstock.errors import QueryError
from penstock.query.options import RerankRequest
from penstock.query.parts.base import PartsRequest
from penstock.query.types import FuseRequest, SearchRequest
from penstock.query.understand.understood import ChatMessage, UnderstandRequest
from penstock.records import Access, ImageRegion
from penstock.serve.json_text import check_unicode
from penstock.serve.schemas.search_request import FuseBody, SearchBody, SearchFields
from penstock.store.filters import Filter, check_addresses, parse_filter


def body_request(body: SearchBody, access: Access) -> SearchRequest:
    """Returns the request of a body. Args and errors as of `search_request`."""
    messages = tuple(ChatMessage(message.role, message.content) for message in body.messages or ())
    return search_request(body, access, messages)


def search_request(body: SearchFields, access: Access, messages: tuple[ChatMessage, ...] = ()) -> SearchRequest:
    """Returns the request of a body, with the conversation before it.

    Args:
        body: as the client sent it.
        access: what its principal may read of the tenant that the body names.
        messages: the conversation.

    Raises:
        QueryError: for invalid base64 or Unicode, and for a filter that cannot be evaluated, or compares hidden
            addresses.
    """
    check_unicode(body.model_dump(exclude={"image", "audio"}, exclude_unset=True, by_alias=True))
    return SearchRequest(
        text=body.text,
        image=None if body.image is None else _decode_base64(body.image, "image"),
        audio=None if body.audio is None else _decode_base64(body.audio, "audio"),
        modalities=body.modalities,
        where=None if body.filter is None else _condition(body.filter),
        access=access,
        limit=body.limit,
        deadline_ms=body.deadline_ms,
        fuse=None if body.fuse is None else _fuse(body.fuse),
        route=body.route,
        rerank=None if body.rerank is None else RerankRequest(**body.rerank.model_dump()),
        min_relevance=body.min_relevance,
        group_by=body.group_by,
        cursor=body.cursor,
        explain=body.explain,
        understand=_understand(body, messages),
        diversify=None if body.diversify is None else body.diversify.share,
        parts=_parts(body),
    )


def _condition(document: Mapping[str, object]) -> Filter | None:
    condition = parse_filter(document)
    if condition is not None:
        check_addresses(condition)
    return condition


def _parts(body: SearchFields) -> PartsRequest:
    avoided, region = body.not_, body.region
    if avoided is not None and avoided.text is None and avoided.like is None:
        raise QueryError("not is empty: leave it out, or send text or like in it", field="/not")
    return PartsRequest(
        like=body.like,
        not_texts=None if avoided is None else avoided.text,
        not_like=None if avoided is None else avoided.like,
        frame=None if body.frame is None else body.frame.id,
        region=None if region is None else ImageRegion(region.x, region.y, region.w, region.h),
        compose=body.compose,
    )


def _understand(body: SearchFields, messages: tuple[ChatMessage, ...]) -> UnderstandRequest:
    wishes = {} if body.understand is None else body.understand.model_dump()
    return UnderstandRequest(**wishes, messages=messages)


def _fuse(body: FuseBody) -> FuseRequest:
    return FuseRequest(body.method, body.normalise, body.k, body.weights or {}, body.alpha)


def _decode_base64(encoded: str, name: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise QueryError(f"{name} is not base64: {exc}", field=f"/{name}") from exc
