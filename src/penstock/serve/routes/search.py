"""`POST /v1/search`."""

from __future__ import annotations

import base64
import binascii

from fastapi import APIRouter, BackgroundTasks, Response

from penstock.errors import QueryError
from penstock.query.options import RerankRequest
from penstock.query.parts.base import PartsRequest
from penstock.query.types import FuseRequest, SearchRequest
from penstock.query.understand.understood import ChatMessage, UnderstandRequest
from penstock.records import ImageRegion
from penstock.serve import problems
from penstock.serve.dependencies import SearchDependency
from penstock.serve.json_text import check_unicode
from penstock.serve.schemas.search_request import FuseBody, SearchBody
from penstock.serve.schemas.search_response import SearchOut, search_json
from penstock.store.filters import parse_filter

PATH = "/v1/search"

router = APIRouter(tags=["search"])


@router.post(PATH, response_model=SearchOut, responses=problems.RESPONSES)
async def search(body: SearchBody, searches: SearchDependency, after_answer: BackgroundTasks) -> Response:
    """Searches all modalities for any mix of a text, an image, a spoken query and indexed entries."""
    result = await searches.search(search_request(body, default_tenant=searches.default_tenant))
    after_answer.add_task(searches.link_found_events, result)
    body_json = search_json(result, profile=searches.profile.name, notice=searches.profile.notice)
    # Built from checked records: a second validation by the framework would cost more than the fusion.
    return Response(body_json, media_type="application/json")


def search_request(body: SearchBody, *, default_tenant: str) -> SearchRequest:
    """Returns the request of a body.

    Raises:
        QueryError: for invalid base64 or Unicode, and for a filter that cannot be evaluated.
    """
    check_unicode(body.model_dump(exclude={"image", "audio"}, exclude_unset=True, by_alias=True))
    return SearchRequest(
        text=body.text,
        image=None if body.image is None else _decode_base64(body.image, "image"),
        audio=None if body.audio is None else _decode_base64(body.audio, "audio"),
        modalities=body.modalities,
        where=None if body.filter is None else parse_filter(body.filter),
        tenant=default_tenant if body.tenant is None else body.tenant,
        limit=body.limit,
        deadline_ms=body.deadline_ms,
        fuse=None if body.fuse is None else _fuse(body.fuse),
        route=body.route,
        rerank=None if body.rerank is None else RerankRequest(**body.rerank.model_dump()),
        min_relevance=body.min_relevance,
        group_by=body.group_by,
        cursor=body.cursor,
        explain=body.explain,
        understand=_understand(body),
        diversify=None if body.diversify is None else body.diversify.share,
        parts=_parts(body),
    )


def _parts(body: SearchBody) -> PartsRequest:
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


def _understand(body: SearchBody) -> UnderstandRequest:
    messages = tuple(ChatMessage(message.role, message.content) for message in body.messages or ())
    wishes = {} if body.understand is None else body.understand.model_dump()
    return UnderstandRequest(**wishes, messages=messages)


def _fuse(body: FuseBody) -> FuseRequest:
    return FuseRequest(body.method, body.normalise, body.k, body.weights or {}, body.alpha)


def _decode_base64(encoded: str, name: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise QueryError(f"{name} is not base64: {exc}", field=f"/{name}") from exc
