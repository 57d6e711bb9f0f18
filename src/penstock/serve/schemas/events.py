"""The JSON of `/v1/events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from penstock.broker.given_vectors import MAX_DIM, MAX_VECTORS
from penstock.broker.wire import MAX_KEY_BYTES, MAX_TITLE_CHARS, MAX_URI_BYTES
from penstock.records import MAX_LABEL_CHARS, MAX_LABELS, Modality

Scalar = StrictStr | StrictInt | StrictFloat | StrictBool | None
Number = StrictFloat | StrictInt
# `fail_fast` of a list: only its first wrong item is named, as each finding takes a kilobyte.


class GivenVectorBody(BaseModel):
    """A vector of the whole media, which is not computed again if the index has its encoder."""

    model_config = ConfigDict(extra="forbid")

    encoder: StrictStr = Field(min_length=1, max_length=500, description="the fingerprint of the encoder")
    values: list[Number] = Field(
        min_length=1, max_length=MAX_DIM, fail_fast=True, description="what the encoder made of the media"
    )


class EventBody(BaseModel):
    """One event: exactly one of text, data and uri, or delete.

    Over the limit because it has each field of an event.
    """

    model_config = ConfigDict(extra="forbid")

    key: StrictStr | None = Field(
        None,
        min_length=1,
        max_length=MAX_KEY_BYTES,
        description="of the asset, which it replaces; without one, the id, the uri or a hash of the content",
    )
    text: StrictStr | None = Field(None, min_length=1, description="the text itself")
    data: StrictStr | None = Field(None, min_length=1, description="the bytes of media, in base64")
    uri: StrictStr | None = Field(None, min_length=1, max_length=MAX_URI_BYTES, description="the address of media")
    delete: StrictBool = Field(False, description="delete the asset of this key; needs the modality")
    modality: Modality | None = Field(
        None, description="of the media; needed with uri and delete, otherwise detected in the bytes"
    )
    title: StrictStr | None = Field(None, max_length=MAX_TITLE_CHARS)
    attributes: dict[StrictStr, Scalar | list[Scalar]] | None = Field(None, description="for filters")
    acl: list[Annotated[StrictStr, Field(max_length=MAX_LABEL_CHARS)]] | None = Field(
        None,
        max_length=MAX_LABELS,
        fail_fast=True,
        description="labels, of which a reader has to have one; each has to be one of the caller's",
    )
    time: AwareDatetime | None = Field(None, description="when it happened, RFC 3339")
    id: StrictStr | None = Field(None, min_length=1, max_length=500, description="of the CloudEvent")
    vectors: list[GivenVectorBody] | None = Field(None, max_length=MAX_VECTORS, fail_fast=True)


class SingleEventBody(EventBody):
    """One event with its tenant.

    Over the limit because it has each field of an event.
    """

    tenant: StrictStr | None = Field(None, min_length=1, max_length=64, description="the owner of the asset")


class EventsBody(BaseModel):
    """Several events of one tenant. Either all of them are valid, or none is produced."""

    model_config = ConfigDict(extra="forbid")

    tenant: StrictStr | None = Field(None, min_length=1, max_length=64, description="the owner of the assets")
    events: list[EventBody] = Field(min_length=1, max_length=10_000, description="at most query.max_events")


class SharedFields(BaseModel):
    """The fields that apply to all files of a form."""

    model_config = ConfigDict(extra="forbid")

    tenant: StrictStr | None = Field(None, min_length=1, max_length=64, description="the owner of the assets")
    prefix: StrictStr = Field("", max_length=500, description="stands before the name of each file in its key")
    title: StrictStr | None = Field(None, max_length=MAX_TITLE_CHARS, description="instead of the name of the file")
    attributes: dict[StrictStr, Scalar | list[Scalar]] | None = Field(None, description="for filters")
    acl: list[Annotated[StrictStr, Field(max_length=MAX_LABEL_CHARS)]] | None = Field(
        None, max_length=MAX_LABELS, fail_fast=True
    )
    time: AwareDatetime | None = Field(None, description="when it happened, RFC 3339")


class AcceptedEventOut(BaseModel):
    """An event that every in-sync replica of the broker has."""

    key: str = Field(description="of the asset, within tenant and topic")
    topic: str
    partition: int
    offset: int


class AcceptedEventsOut(BaseModel):
    """The positions of the events of a request, in its order."""

    tenant: str
    events: list[AcceptedEventOut]


class EventLimitsOut(BaseModel):
    """The limits of requests with events."""

    max_events: int = Field(description="in one request")
    max_event_bytes: int = Field(description="of the media of one event; larger media are sent as an address")
    max_body_bytes: int = Field(description="of one request")
    modalities: list[Modality] = Field(description="that are indexed")


def request_body_schema() -> Mapping[str, object]:
    """Returns the OpenAPI description of the body, which is JSON or a form."""
    reference = "#/components/schemas/{}"
    forms = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
            "event": {"type": "string", "description": "JSON with the fields that all files share"},
        },
    }
    either = {"anyOf": [{"$ref": reference.format(model.__name__)} for model in (EventsBody, SingleEventBody)]}
    return {
        "required": True,
        "content": {"application/json": {"schema": either}, "multipart/form-data": {"schema": forms}},
    }
