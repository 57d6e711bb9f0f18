"""The interface of generators, which write an answer to a prompt, and their errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from penstock.errors import TransientError
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.types import TokenUsage


class GeneratorError(TransientError):
    """The generator wrote nothing; the message completes "no answer was generated: "."""


class GeneratorCutError(GeneratorError):
    """The generator's text ended before it was complete; the message completes "the answer is not complete: "."""


@dataclass(slots=True)
class GeneratorRun:
    """Reports about one answer of a generator, which fills it in while it writes.

    Attributes:
        usage: the tokens as the generator counts them; known once the text has ended, if at all.
        shortened: whether the text ended at the limit of tokens, rather than where the model ended it.
        attempts: requests that were sent for it.
    """

    usage: TokenUsage = field(default_factory=TokenUsage)
    shortened: bool = False
    attempts: int = 0


class AnswerGenerator(Protocol):
    """Writes answers to prompts. Belongs to one event loop; several answers may be written concurrently."""

    @property
    def name(self) -> str:
        """Returns the name of its model."""

    @property
    def sees_images(self) -> bool:
        """Returns whether it takes the images of a prompt."""

    def stream(self, prompt: Prompt, run: GeneratorRun, *, timeout_s: float | None = None) -> AsyncGenerator[str, None]:
        """Yields the text piece by piece, none of them empty. A piece may end anywhere, in a marker too.

        Closing it (`aclose`), or cancelling the task that awaits it, ends the request upstream immediately. It is
        started again once, before the first piece only.

        Args:
            prompt: of `build_prompt`.
            run: is filled in.
            timeout_s: for all of it, if that is less than the setting.

        Raises:
            GeneratorError: there is no first piece: it cannot be reached, refuses, is late or wrote nothing.
            GeneratorCutError: later: the connection broke, the time is up, or what arrived is no text.
        """

    async def close(self) -> None:
        """Ends its connections."""
