"""Reads the body of `POST /v1/events`: JSON, or a form with files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from penstock.auth import Principal
from penstock.errors import ForbiddenError, QueryError
from penstock.serve.json_size import check_json_size
from penstock.serve.json_text import check_unicode
from penstock.serve.schemas.events import EventBody, EventsBody, SharedFields, SingleEventBody
from penstock.serve.use_cases.events import NewEvent

Body = TypeVar("Body", bound=BaseModel)

FILE, SHARED = "file", "event"
_SHARED_BYTES = 256 * 1024
# Of a JSON body: what the most events of a request may have of fields and attributes, and numbers of their vectors.
_MEMBERS, _MEMBERS_OF_EVENT = 20_000, 100
_MAX_ITEMS = 2_000_000


@dataclass(frozen=True, slots=True)
class EventsRequest:
    """The events of a request, and the tenant that it names, if any."""

    tenant: str | None
    events: Sequence[NewEvent]


class _Outline(msgspec.Struct):
    """Distinguishes several events from one, without making objects of them."""

    events: msgspec.Raw = msgspec.Raw(b"")


async def read_events(request: Request, *, max_events: int) -> EventsRequest:
    """Returns the events of a request.

    Raises:
        RequestValidationError: a field is invalid.
        QueryError: the body is not JSON, has too many events or parts, or data that are not base64.
        HTTPException: 415, it is neither JSON nor a form.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        events = _of_json(await request.body(), max_events)
    elif media_type == "multipart/form-data":
        async with request.form(max_files=max_events + 1, max_fields=1, max_part_size=_SHARED_BYTES) as form:
            events = await _of_form(form)
    else:
        raise HTTPException(415, "send events as application/json, or files as multipart/form-data")
    _check_count(len(events.events), max_events)
    return events


def _check_count(events: int, max_events: int) -> None:
    if events > max_events:
        raise QueryError(f"the request has more than {max_events:,} events (query.max_events)", status=413)


def refuse_other_sites(request: Request, caller: Principal) -> None:
    """Refuses what a page of another site makes a browser send, where no credentials would stop it.

    A browser sends forms anywhere without asking the server first, and the server is reachable for it on loopback.

    Raises:
        ForbiddenError: the request is of another site.
    """
    if caller.subject != "anonymous":
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = origin.partition("://")[2] if origin is not None else None
    is_own = site in ("same-origin", "none") if site is not None else host in (None, request.headers.get("host"))
    if not is_own:
        raise ForbiddenError("events are not taken from pages of other sites")


# --- JSON ------------------------------------------------------------------------------------------------------------


def _of_json(body: bytes, max_events: int) -> EventsRequest:
    try:
        events = msgspec.json.decode(body, type=_Outline).events
    except (ValueError, RecursionError) as exc:
        raise QueryError(f"the body is not a JSON object: {exc}") from exc
    # Both are bounded before the models make objects of them, and findings of what is wrong with them.
    check_json_size(body, max_members=_MEMBERS + _MEMBERS_OF_EVENT * max_events, max_items=_MAX_ITEMS)
    if bytes(events):
        _check_count(_length(events), max_events)
        batch = _validated(EventsBody, body)
        return EventsRequest(batch.tenant, [_event(event, f"/events/{n}") for n, event in enumerate(batch.events)])
    single = _validated(SingleEventBody, body)
    return EventsRequest(single.tenant, [_event(single, "")])


def _length(events: msgspec.Raw) -> int:
    try:
        return len(msgspec.json.decode(events, type=list[msgspec.Raw]))
    except msgspec.ValidationError:  # no list, as the model says better
        return 0


def _validated(model: type[Body], body: bytes, *location: str) -> Body:
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        findings = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**finding, "loc": ("body", *location, *finding["loc"])} for finding in findings]
        ) from exc


def _event(body: EventBody, pointer: str) -> NewEvent:
    check_unicode(body.model_dump(exclude={"data", "vectors"}, exclude_unset=True))
    if sum((body.text is not None, body.data is not None, body.uri is not None, body.delete)) != 1:
        raise QueryError("an event has exactly one of text, data, uri and delete", status=422, field=pointer or "/text")
    if (body.uri is not None or body.delete) and body.modality is None:
        raise QueryError(
            "an event with uri or delete needs its modality, as there are no bytes to detect it in",
            status=422,
            field=f"{pointer}/modality",
        )
    if body.delete and body.key is None:
        raise QueryError("an event that deletes needs the key of its asset", status=422, field=f"{pointer}/key")
    return NewEvent(
        key=body.key,
        text=body.text,
        data=None if body.data is None else _decoded(body.data, f"{pointer}/data"),
        uri=body.uri,
        modality=body.modality,
        title=body.title or "",
        attributes=body.attributes or {},
        acl=None if body.acl is None else tuple(body.acl),
        time_ms=None if body.time is None else round(body.time.timestamp() * 1000),
        id=body.id,
        vectors=tuple((vector.encoder, tuple(vector.values)) for vector in body.vectors or ()),
        pointer=pointer,
    )


def _decoded(text: str, pointer: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise QueryError(f"the data are not base64: {exc}", status=422, field=pointer) from exc


# --- forms -----------------------------------------------------------------------------------------------------------


async def _of_form(form: FormData) -> EventsRequest:
    shared, files = SharedFields(), []
    for name, value in form.multi_items():
        if name == FILE and isinstance(value, UploadFile):
            files.append(value)
        elif name == SHARED and isinstance(value, str):
            shared = _validated(SharedFields, value.encode("utf-8", "replace"), SHARED)
        else:
            raise QueryError(
                f"the form has {name[:80]!r}; it may have files as {FILE!r} and JSON as {SHARED!r}", status=422
            )
    names = [file.filename or "" for file in files]
    if not files:
        raise QueryError(f"the form has no files: send them as {FILE!r}", status=422, field=f"/{FILE}")
    if "" in names or len(set(names)) != len(names):
        raise QueryError("each file needs a name of its own, which is its key", status=422, field=f"/{FILE}")
    check_unicode({"names": names, **shared.model_dump(exclude_unset=True)})
    events = [_of_file(await file.read(), file.filename or "", shared, n) for n, file in enumerate(files)]
    return EventsRequest(shared.tenant, events)


def _of_file(data: bytes, name: str, shared: SharedFields, number: int) -> NewEvent:
    return NewEvent(
        key=f"{shared.prefix}{name}",
        data=data,
        title=shared.title or name.rpartition("/")[2],
        attributes=shared.attributes or {},
        acl=None if shared.acl is None else tuple(shared.acl),
        time_ms=None if shared.time is None else round(shared.time.timestamp() * 1000),
        pointer=f"/{FILE}/{number}",
    )
