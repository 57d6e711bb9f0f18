"""The JSON of `/v1/chat/completions` and `/v1/models`, in the shape of OpenAI's, as far as it has a meaning here."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from penstock.serve.schemas.answer import AnswerOut
from penstock.serve.schemas.ask_request import AskFields

MODEL = "penstock"


class ChatTextPart(BaseModel):
    """Words of a message."""

    type: Literal["text"]
    text: StrictStr


class ChatImageUrl(BaseModel):
    """An image within the request; none is ever read from an address."""

    url: StrictStr = Field(description="a data URL: data:image/jpeg;base64,…")


class ChatImagePart(BaseModel):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ChatImageUrl


ChatPart: TypeAlias = Annotated[ChatTextPart | ChatImagePart, Field(discriminator="type")]


class UiPart(BaseModel):
    """A part of a message as the AI SDK sends it: words, or a file within the request. Others are ignored."""

    type: StrictStr = Field(examples=["text", "file"])
    text: StrictStr | None = None
    url: StrictStr | None = Field(None, description="of a file: a data URL")


class ChatMessageBody(BaseModel):
    """A message of a conversation. Those of `system`, `developer` and `tool` are ignored, as the prompt is fixed."""

    role: StrictStr = Field(examples=["user", "assistant"])
    content: StrictStr | list[ChatPart] | None = None
    parts: list[UiPart] | None = Field(None, description="in the place of `content`, as the AI SDK sends it")


class StreamOptionsBody(BaseModel):
    """Options of a stream."""

    include_usage: StrictBool = Field(False, description="send a last chunk with the tokens of the answer")


class ResponseFormatBody(BaseModel):
    """The form of the answer, which is always text."""

    type: StrictStr = "text"


class ChatBody(BaseModel):
    """A conversation whose last message is the question. Other fields of OpenAI's are accepted and have no effect."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"model": MODEL, "messages": [{"role": "user", "content": "What do herons eat?"}]}]
        },
    )

    model: StrictStr = Field(MODEL, description="always penstock")
    messages: list[ChatMessageBody] = Field(description="the oldest first; at most 50 and 8 images, as data URLs")
    stream: StrictBool = Field(False, description="send the answer sentence by sentence, as each is checked")
    stream_options: StreamOptionsBody | None = None
    n: StrictInt | None = Field(None, description="number of answers: 1")
    response_format: ResponseFormatBody | None = None
    penstock: AskFields | None = Field(
        None, description="what `POST /v1/ask` takes besides: tenant, filter, modalities, generator, max_sources …"
    )


class UrlCitation(BaseModel):
    """The source of a mark such as [1]."""

    start_index: int = Field(description="position of the mark in the content, in characters")
    end_index: int
    title: str
    url: str


class AnnotationOut(BaseModel):
    """A citation."""

    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class MessageOut(BaseModel):
    """The answer as a message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: list[AnnotationOut]


class ChoiceOut(BaseModel):
    """The only choice."""

    index: int = 0
    message: MessageOut
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatUsageOut(BaseModel):
    """Tokens of the generator; 0 where none wrote, or it does not say."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatOut(BaseModel):
    """An answer in the shape of OpenAI's chat completions, and whole under `penstock`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="seconds since the epoch")
    model: str = MODEL
    choices: list[ChoiceOut]
    usage: ChatUsageOut
    penstock: AnswerOut


class DeltaOut(BaseModel):
    """Adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    annotations: list[AnnotationOut] | None = None


class ChunkChoiceOut(BaseModel):
    """The only choice of a chunk."""

    index: int = 0
    delta: DeltaOut
    finish_reason: Literal["stop"] | None = None


class ChunkOut(BaseModel):
    """A part of an answer in the shape of OpenAI's chunks. The last one with a choice has all of it in `penstock`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str = MODEL
    choices: list[ChunkChoiceOut]
    usage: ChatUsageOut | None = None
    penstock: AnswerOut | None = None


class ModelOut(BaseModel):
    """A model that a client may name."""

    id: str = MODEL
    object: Literal["model"] = "model"
    created: int = Field(0, description="0: it has no date")
    owned_by: str = MODEL


class ModelsOut(BaseModel):
    """The models: penstock."""

    object: Literal["list"] = "list"
    data: list[ModelOut]
