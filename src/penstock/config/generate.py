"""Settings of the generator, of its prompts, and of the answers that are made of what it writes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.config.secrets import refuse_userinfo
from penstock.config.section import Section


class UnsupportedRule(StrEnum):
    """Names what becomes of a sentence that no source supports. A contradicted one is always dropped."""

    DROP = "drop"
    MARK = "mark"


class GenerateSettings(Section):
    """The model that writes text, any endpoint that speaks OpenAI's chat completions, and the answers made of it.

    Over the limit because each setting is an attribute.
    """

    # --- the endpoint ---
    url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="base URL of the generator, such as http://localhost:8000/v1; unset: there is none, and answers "
        "quote the best sentences of their sources",
    )
    model: str = Field("default", description="name of its model, as the endpoint knows it")
    key: SecretStr | None = Field(None, description="API key, sent as a bearer token")
    key_file: Path | None = Field(None, description="file of the API key, read again for each request")
    vision: bool = Field(False, description="whether the model sees images, which are then sent to it with the words")
    temperature: float = Field(0.0, ge=0, le=2, description="randomness of what it writes; 0: its likeliest words")
    extra_fields: dict[str, Any] = Field(
        {},
        description='further fields of the body of its requests, as JSON, such as {"top_p": 0.9}; null leaves out one '
        "that is sent otherwise",
    )
    connect_ms: int = Field(3_000, ge=1, description="time to connect to the endpoint, milliseconds")
    # A hosted model begins within a second; one of 135 million parameters reads 2,000 tokens in 8 s on two cores.
    first_token_ms: int = Field(
        20_000,
        ge=1,
        description="time until the first words arrive, milliseconds; then the best sentences are quoted instead",
    )
    total_ms: int = Field(60_000, ge=1, description="time for a whole answer, which then ends as it is, milliseconds")

    # --- the prompt ---
    # What the smallest models in use hold; larger ones gain little from more than eight passages.
    context_tokens: int = Field(
        4_096, ge=512, description="tokens that the model holds, those of the prompt and of the answer together"
    )
    max_tokens: int = Field(512, ge=16, description="maximum number of tokens of an answer")
    max_sources: int = Field(8, ge=1, le=50, description="maximum number of hits that an answer may rest on")
    live_weight: float = Field(
        0.8, gt=0, le=1, description="share of the prompt for the question and its sources, relative to the other two"
    )
    history_weight: float = Field(
        0.6,
        ge=0,
        le=1,
        description="share of the prompt for the conversation before it, relative to the other two",
    )
    profile_weight: float = Field(
        0.5, ge=0, le=1, description="share of the prompt for the facts about the user, relative to the other two"
    )
    template: Path | None = Field(
        None, description="file of the prompt's text, read when a replica starts; unset: the packaged one"
    )
    max_images: int = Field(
        4,
        ge=0,
        le=50,
        description="maximum number of images in a prompt, those of the question first",
    )
    image_side: int = Field(768, ge=64, le=4_096, description="longest side to which these are scaled down, pixels")
    image_quality: int = Field(80, ge=1, le=95, description="their quality as JPEG")
    # A model with patches of 28 pixels takes 756 for 768 by 768 pixels, one with tiles of 512 pixels 765.
    image_tokens: int = Field(800, ge=1, description="tokens that an image of a prompt counts as")

    # --- the check of what is written ---
    unsupported: UnsupportedRule = Field(
        UnsupportedRule.DROP,
        description="what becomes of a sentence that no source supports: drop or mark; a contradicted one is dropped",
    )
    verifier: str | None = Field(
        None,
        pattern=r"^nli:.+$",
        description="model that reads a sentence with its source besides the rules, as nli:<folder or repository of "
        "the Hugging Face hub>; unset: none",
    )
    verifier_ms: int = Field(2_000, ge=1, description="time for one sentence, then the rules decide, milliseconds")
    max_answers: int = Field(
        8, ge=1, description="answers that a replica writes concurrently; further ones get HTTP 429"
    )

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        return refuse_userinfo(value, "set generate.key or generate.key_file")

    @model_validator(mode="after")
    def _answer_leaves_room(self) -> GenerateSettings:
        if self.max_tokens * 2 > self.context_tokens:
            raise ValueError(
                f"generate.max_tokens is {self.max_tokens}, more than half of generate.context_tokens "
                f"({self.context_tokens}): no room is left for sources"
            )
        return self
