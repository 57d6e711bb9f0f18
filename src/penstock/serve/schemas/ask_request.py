"""The JSON that `POST /v1/ask` takes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from penstock.serve.schemas.search_request import SearchFields


class TextPart(BaseModel):
    """Words of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: StrictStr


class ImageUrl(BaseModel):
    """An image within the request; none is ever read from an address."""

    model_config = ConfigDict(extra="forbid")

    url: StrictStr = Field(
        description="a data URL: data:image/jpeg;base64,…", examples=["data:image/png;base64,iVBORw0KGgo="]
    )
    detail: StrictStr | None = Field(None, description="ignored: setting generate.image_side")


class ImagePart(BaseModel):
    """An image of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["image_url"]
    image_url: ImageUrl


MessagePart: TypeAlias = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class AskMessageBody(BaseModel):
    """A message of a conversation: words, or words and images."""

    model_config = ConfigDict(extra="forbid")

    role: StrictStr = Field(json_schema_extra={"enum": ["user", "assistant"]})
    content: StrictStr | list[MessagePart]


class AskFields(SearchFields):
    """The fields of a search, and how its question is answered.

    Over the limit because it has the fields of a search.
    """

    generator: StrictStr = Field(
        "auto", description="auto: the configured model, else extractive; extractive: the best sentences; or its name"
    )
    max_sources: StrictInt | None = Field(
        None, description="maximum number of sources; the setting generate.max_sources if absent"
    )
    profile: dict[str, StrictStr] | None = Field(
        None,
        description="facts about the asker, such as domain and intent: at most 10, of 200 characters each",
        examples=[{"domain": "ornithology", "intent": "teaching"}],
    )
    answer_in: StrictStr = Field(
        "question", description="language of the answer, ISO 639-1, or question: that of the question", examples=["de"]
    )


class AskBody(AskFields):
    """A question, as words, as the last message of a conversation, or spoken, with the fields of a search.

    Over the limit because it has the fields of a search.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": "What do herons eat?"},
                {
                    "messages": [
                        {"role": "user", "content": "When is the museum open?"},
                        {"role": "assistant", "content": "From nine to five on weekdays [1]."},
                        {"role": "user", "content": "And on Sundays?"},
                    ],
                    "stream": True,
                    "filter": {"mime": "text/plain"},
                },
            ]
        },
    )

    question: StrictStr | None = Field(
        None, description="the question in words; if absent, the last of the messages, the text, or what is spoken"
    )
    messages: list[AskMessageBody] | None = Field(
        None,
        description="the conversation, the oldest message first; at most 50. Its last message is the question if there "
        "is no `question`. Its images are given as data URLs, and those before the last message are not looked at",
    )
    stream: StrictBool = Field(False, description="answer by server-sent events as it is written (text/event-stream)")
    resumable: StrictBool = Field(
        False,
        description="with stream: complete the answer although the client has gone, so that it can fetch the rest from "
        "/v1/ask/{answer_id}; by default it is cancelled",
    )
