"""Opens what a replica makes answers with, from settings and the other parts of its query plane."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from penstock.config import Settings
from penstock.encoders.entailment import EntailmentModel
from penstock.encoders.precision import choose_device
from penstock.encoders.profiles import PASSAGE_TEXT, Profile
from penstock.query.embed import QueryEncoder
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.answer_tools import AnswerTools
from penstock.query.generate.chat_generator import ChatGenerator
from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.check.sources import Encode
from penstock.query.generate.check.verifier import ClaimVerifier, EntailmentVerifier
from penstock.query.generate.images import EntryImages, PromptImages
from penstock.query.generate.sources import SourceReader
from penstock.query.generate.template import load_template
from penstock.records import Field, Float32
from penstock.store.base import EntrySearch


def open_answer_tools(
    settings: Settings,
    store: EntrySearch,
    images: EntryImages,
    executor: BoundedExecutor,
    *,
    encoder: QueryEncoder,
    profile: Profile,
) -> AnswerTools:
    """Returns the tools. The generator has to be closed.

    Args:
        settings: all of them.
        store: has the passages beside those that are found.
        images: reads the images of entries.
        executor: runs the calls of both.
        encoder: of the replica.
        profile: the models.

    Raises:
        ConfigError: the generator's URL or key, the template, or the verifier, cannot be used.
        UnavailableError: the verifier cannot be fetched.
    """
    encode = _encode(encoder, PASSAGE_TEXT)
    generate = settings.generate
    return AnswerTools(
        sources=SourceReader(store, executor),
        checker=SentenceChecker(encode, verifier=_verifier(settings)),
        generator=ChatGenerator(generate) if generate.url else None,
        template=load_template(generate),
        images=PromptImages(images, executor, generate, settings.image) if generate.vision else None,
        encode=encode,
        encode_question=_encode(encoder, profile.query_encoder(Field.PASSAGE)),
    )


def _verifier(settings: Settings) -> ClaimVerifier | None:
    if settings.generate.verifier is None:
        return None
    model = EntailmentModel(settings.generate.verifier.removeprefix("nli:"), choose_device(settings.device))
    return EntailmentVerifier(model.judge, timeout_s=settings.generate.verifier_ms / 1e3)


def _encode(encoder: QueryEncoder, role: str) -> Encode:
    """Returns a function from texts to their vectors by the sentence encoder of the replica."""

    async def encode(texts: Sequence[str]) -> Float32:
        return np.stack(await asyncio.gather(*(encoder.encode_text(role, text) for text in texts)))

    return encode
