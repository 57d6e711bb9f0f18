"""The envelopes in which connectors write rows of tables to media topics."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from penstock.config.section import Section


class EnvelopeKind(StrEnum):
    """Names the forms of a connector's values."""

    CONNECT = "connect"  # a row as JsonConverter writes it, with its schema beside it or without
    DEBEZIUM = "debezium"  # a change of a row: before, after, op


class EnvelopeSettings(Section):
    """The envelope of a topic, and the columns of its rows that are the parts of an event.

    Columns that are not named here are not read: nothing of a table becomes searchable by accident.
    """

    kind: EnvelopeKind
    text: str | None = Field(None, description="column of a text")
    uri: str | None = Field(None, description="column of the address of media, a claim check")
    data: str | None = Field(None, description="column of bytes, which JSON has as base64")
    title: str | None = Field(None, description="column of the title")
    time: str | None = Field(
        None, description="column of the time: RFC 3339 or milliseconds; unset: of a change its time in the database"
    )
    acl: str | None = Field(None, description="column of labels: a list, or one label")
    attributes: tuple[str, ...] = Field((), description="columns that become attributes")

    @model_validator(mode="after")
    def _has_one_payload(self) -> Self:
        if sum(column is not None for column in (self.text, self.uri, self.data)) != 1:
            raise ValueError("an envelope needs exactly one of text, uri and data: the column that has the media")
        return self
