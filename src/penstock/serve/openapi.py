"""Describes in `/openapi.json` what FastAPI does not know: streams of server-sent events, and credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from penstock.auth import Permission
from penstock.serve.authentication import permissions
from penstock.serve.event_stream import MEDIA_TYPE
from penstock.serve.problems import Problem
from penstock.serve.schemas.answer import AnswerOut, SearchEventOut, SentenceEventOut, TokenEventOut
from penstock.serve.schemas.events import EventsBody, SingleEventBody
from penstock.serve.schemas.openai import ChunkOut

_CREDENTIALS = "credentials"
_REFERENCE = "#/components/schemas/{model}"

ASK_EVENTS: Mapping[str, type[BaseModel]] = {
    "search": SearchEventOut,
    "token": TokenEventOut,
    "sentence": SentenceEventOut,
    "done": AnswerOut,
    "error": Problem,
}
"""The events of `POST /v1/ask` as a stream, in their order; `error` takes the place of `done`."""


def event_stream(description: str) -> dict[str, object]:
    """Returns the OpenAPI response of a stream of `ASK_EVENTS`. As of OpenAPI 3.1 its schema is that of one event."""
    schema = {"title": "Event", "oneOf": [_event_schema(name, model) for name, model in ASK_EVENTS.items()]}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def chat_stream(description: str) -> dict[str, object]:
    """Returns the OpenAPI response of a stream of chat completions, whose events have no names."""
    data = {
        "type": "string",
        "description": "a chunk as JSON, a part of a UI message with protocol ai-sdk, at the end [DONE]",
        "contentSchema": {"$ref": _REFERENCE.format(model=ChunkOut.__name__)},
    }
    schema = {"title": "Chunk", "type": "object", "properties": {"data": data}, "required": ["data"]}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def describe(app: FastAPI, *, needs_credentials: bool) -> None:
    """Makes `app.openapi()` add the schemas that `event_stream` and `chat_stream` refer to, and the credentials.

    The document is made when it is first requested, and then kept: it takes half a second.
    """
    described = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = described()
        if is_new:
            _add_schemas(document)
            if needs_credentials:
                _add_credentials(document, dict(permissions(app.routes)))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_schemas(document: dict[str, Any]) -> None:
    models: list[type[BaseModel]] = [*ASK_EVENTS.values(), ChunkOut]
    bodies: list[type[BaseModel]] = [EventsBody, SingleEventBody]
    sides = [*((model, "serialization") for model in models), *((model, "validation") for model in bodies)]
    _, definitions = models_json_schema(sides, ref_template=_REFERENCE)  # type: ignore[arg-type]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)


def _add_credentials(document: dict[str, Any], needed: Mapping[str, Permission | None]) -> None:
    """Says which operations need credentials, and which permission."""
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, or a token of the OpenID Connect provider",
    }
    document["components"]["securitySchemes"] = {_CREDENTIALS: scheme}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if (permission := needed[path]) is not None:
                operation["security"] = [{_CREDENTIALS: []}]
                operation["x-permission"] = permission.value


def _event_schema(name: str, model: type[BaseModel]) -> dict[str, object]:
    reference = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {
        "title": name,
        "type": "object",
        "properties": {
            "event": {"const": name},
            "id": {"type": "string", "description": "counts up from 1; for the header Last-Event-ID"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": reference},
        },
        "required": ["event", "data"],
    }
