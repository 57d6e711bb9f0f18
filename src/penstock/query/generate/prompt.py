"""Makes the prompt of an answer: fixed instructions, sources as data, facts about the user, conversation, question."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from penstock.config import GenerateSettings
from penstock.query.generate.neutral import neutral, neutral_name
from penstock.query.generate.shares import divide
from penstock.query.generate.template import PromptTemplate, packaged_template
from penstock.query.generate.tokens import estimate_tokens, shorten
from penstock.query.generate.types import Source
from penstock.query.understand.language import language_name
from penstock.query.understand.understood import ChatMessage
from penstock.records import Collection, Entry

PromptMessage: TypeAlias = Mapping[str, Any]
"""A message as OpenAI's chat completions take it: `role`, and `content`, which is text or a list of parts."""

_MESSAGE_TOKENS = 12  # that chat templates put around a message: its role, its begin and its end
_CERTAIN_SHARE = 0.95  # of the room; for random letters the estimate of tokens is this share of the true number
_MIN_SOURCE_TOKENS = 48  # less says too little; then the last source is left out for the others
_MIN_MESSAGE_TOKENS = 16
_MAX_TOKEN_CHARS = 8
# A question's share of the live input; a longer one is a text, whose begin shows what it is about.
_MAX_QUESTION_SHARE = 0.75
_MAX_IMAGE_SHARE = 0.6  # of the prompt without its instructions
_ROLES = ("user", "assistant")
_KINDS = {
    Collection.TEXT: "text",
    Collection.IMAGE: "image",
    Collection.SPEECH: "speech",
    Collection.FRAME: "video",
    Collection.SOUND: "sound",
    Collection.PAGE: "page",
}
_PARAGRAPHS = "\n\n"
_BREAK = " … "  # between paragraphs of a source, which stands on one line


@dataclass(frozen=True, slots=True)
class Prompt:
    """Holds what a generator reads.

    Attributes:
        messages: the system's and the user's.
        tokens: estimated, those of images included; never more than `generate.context_tokens` less `max_tokens`.
        max_tokens: maximum number of tokens of the answer.
        sources: those that it has, in its order.
        left_out: the numbers of those for which there was no room.
        notices: what was left out or shortened, a sentence each.
    """

    messages: tuple[PromptMessage, ...] = field(repr=False)
    tokens: int
    max_tokens: int
    sources: tuple[Source, ...]
    left_out: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptBlock:
    """Lines of a prompt, and notices about those that are not among them."""

    lines: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Returns the lines as one text."""
        return "\n".join(self.lines)


def build_prompt(
    question: str,
    sources: Sequence[Source],
    settings: GenerateSettings,
    *,
    history: Sequence[ChatMessage] = (),
    profile: Mapping[str, str] | None = None,
    language: str | None = None,
    images: Sequence[bytes] = (),
    template: PromptTemplate | None = None,
) -> Prompt:
    """Returns the prompt for a question.

    The room that instructions and images leave is divided between the question with its sources, the conversation and
    the profile, by their weights. Sources are shortened, and the last ones left out, until they fit.

    Args:
        question: as the user wrote it, or the one that stands alone.
        sources: the best first. `Source.image` is a JPEG as `images.scaled_jpeg` makes it.
        settings: of the generator.
        history: the conversation before it, the oldest first.
        profile: facts about the user, by name.
        language: of the answer, ISO 639-1; None: that of the question.
        images: those of the question, as `images.scaled_jpeg` makes them.
        template: of `load_template`; None: the packaged one.
    """
    template = packaged_template() if template is None else template
    language_line = f"Write in {language_name(language) or language}." if language else ""
    room = int((settings.context_tokens - settings.max_tokens) * _CERTAIN_SHARE)
    room -= 2 * _MESSAGE_TOKENS + _fixed_tokens(template, language_line)
    shown = _image_parts(sources, images, settings, room)
    room -= _image_tokens(shown, settings)
    max_chars = settings.context_tokens * _MAX_TOKEN_CHARS  # what is longer is not read, as it has no room
    question_text = neutral(question[:max_chars], lines=True)
    source_texts = [_source_text(source, max_chars) for source in sources]
    messages = _message_lines(history, max_chars)
    facts = [f"{neutral_name(name)}: {neutral(fact)}" for name, fact in (profile or {}).items()]
    live_tokens, history_tokens, profile_tokens = divide(
        (_tokens(question_text, *map(_label, sources), *source_texts), _tokens(*messages), _tokens(*facts)),
        (settings.live_weight, settings.history_weight, settings.profile_weight),
        max(0, room),
    )
    question_block = _question_block(question_text, live_tokens, alone=not sources)
    kept, source_block = _source_block(sources, source_texts, live_tokens - _tokens(question_block.text))
    history_block = _history_block(messages, history_tokens, count=len(history))
    profile_block = _profile_block(facts, profile_tokens)
    values = {"sources": source_block.text, "question": question_block.text, "language": language_line}
    values["profile"] = _delimited("profile", profile_block.text)
    values["history"] = _delimited("conversation", history_block.text)
    user = template.fill(values)
    blocks = (question_block, source_block, history_block, profile_block)
    return Prompt(
        messages=_messages(template.system, user, shown),
        tokens=_total_tokens(template.system, user, shown, settings),
        max_tokens=settings.max_tokens,
        sources=kept,
        left_out=tuple(source.number for source in sources[len(kept) :]),
        notices=tuple(notice for block in blocks for notice in block.notices),
    )


def shown_prompt(prompt: Prompt) -> str:
    """Returns a prompt as a user reads it: each message under its role, an image as its size."""
    lines: list[str] = []
    for message in prompt.messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        lines += [f"[{message['role']}]", *(_shown_part(part) for part in parts), ""]
    return "\n".join(lines)


# --- the parts of the user's message ---------------------------------------------------------------------------------


def _question_block(text: str, max_tokens: int, *, alone: bool) -> PromptBlock:
    shortened = shorten(text, int(max_tokens * (1 if alone else _MAX_QUESTION_SHARE)) - 1)
    notices = () if shortened == text else ("The question was shortened for the generator.",)
    return PromptBlock((shortened,), notices)


def _source_block(
    sources: Sequence[Source], texts: Sequence[str], max_tokens: int
) -> tuple[tuple[Source, ...], PromptBlock]:
    """Returns the sources for which there is room, the best first, and their lines."""
    labels = [_label(source) for source in sources]
    needs = [_tokens(text) for text in texts]
    least = [estimate_tokens(label) + min(need, _MIN_SOURCE_TOKENS) for label, need in zip(labels, needs, strict=True)]
    count = len(sources)
    while count and sum(least[:count]) > max_tokens:
        count -= 1
    room = max_tokens - sum(estimate_tokens(label) for label in labels[:count])
    lines: list[str] = []
    for number in range(count):
        share = divide(needs[number:count], [1.0] * (count - number), room)[0]
        text = shorten(texts[number], share - 1)
        lines.append(labels[number] + text)
        room -= _tokens(text)
    notices: tuple[str, ...] = ()
    if count < len(sources):
        notices = (f"{len(sources) - count} of {len(sources)} sources did not fit into the generator's prompt.",)
    return tuple(sources[:count]), PromptBlock(tuple(lines), notices)


def _history_block(messages: Sequence[str], max_tokens: int, *, count: int) -> PromptBlock:
    """Returns the latest of `count` messages for which there is room, the first of them shortened."""
    lines: list[str] = []
    for message in reversed(messages):
        if max_tokens < _MIN_MESSAGE_TOKENS and _tokens(message) > max_tokens:
            break
        shortened = shorten(message, max_tokens - 1)
        lines.append(shortened)
        max_tokens -= _tokens(shortened)
        if shortened != message:
            break
    complete = len(messages) == count and lines[::-1] == list(messages)
    notices = () if complete else ("Earlier messages were left out of the generator's prompt.",)
    return PromptBlock(tuple(line for line in lines[::-1] if line), notices)


def _profile_block(facts: Sequence[str], max_tokens: int) -> PromptBlock:
    lines: list[str] = []
    for fact in facts:
        if _tokens(fact) > max_tokens:
            return PromptBlock(tuple(lines), ("A part of the profile was left out of the generator's prompt.",))
        lines.append(fact)
        max_tokens -= _tokens(fact)
    return PromptBlock(tuple(lines))


def _label(source: Source) -> str:
    """Returns what stands before the text of a source: its number, which no text can forge, title and kind."""
    entry = source.hit.entry
    name = ", ".join(part for part in (neutral_name(entry.title or _file_name(entry.uri)), page_of(entry)) if part)
    kind = (
        "video" if source.hit.moment is not None and source.hit.moment.frame is not None else _KINDS[entry.collection]
    )
    return f'[{source.number}] "{name}" ({kind}): ' if name else f"[{source.number}] ({kind}): "


def page_of(entry: Entry) -> str:
    """Returns the page of a document as citations name it, such as `p. 12`; an empty text for other media."""
    return f"p. {neutral_name(entry.page_label) or entry.page}" if entry.page else ""


def _file_name(uri: str) -> str:
    """Returns the last part of an address; the rest may be private."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as of a host in broken brackets
        return ""
    return "" if parts.scheme in ("", "sha256", "data") else unquote(PurePosixPath(parts.path).name)


def _source_text(source: Source, max_chars: int) -> str:
    return _BREAK.join(text for text in map(neutral, source.text[:max_chars].split(_PARAGRAPHS)) if text)


def _message_lines(history: Sequence[ChatMessage], max_chars: int) -> list[str]:
    """Returns a line for each of the latest messages, as far as they might fit."""
    lines: list[str] = []
    for message in reversed(history):
        role = message.role if message.role in _ROLES else _ROLES[0]
        lines.append(f"{role}: {neutral(message.content[:max_chars])}")
        max_chars -= len(message.content)
        if max_chars <= 0:
            break
    return lines[::-1]


def _delimited(name: str, text: str) -> str:
    return f"<{name}>\n{text}\n</{name}>" if text else ""


# --- images ----------------------------------------------------------------------------------------------------------


def _image_parts(
    sources: Sequence[Source], images: Sequence[bytes], settings: GenerateSettings, room: int
) -> list[tuple[str, bytes]]:
    """Returns the images that a model sees, each with the line before it."""
    if not settings.vision:
        return []
    every = [("Image of the question:", image) for image in images]
    every += [(f"Image of source [{source.number}]:", source.image) for source in sources if source.image is not None]
    count = min(settings.max_images, int(room * _MAX_IMAGE_SHARE) // (settings.image_tokens + _MESSAGE_TOKENS))
    return every[: max(0, count)]


def _messages(system: str, user: str, shown: Sequence[tuple[str, bytes]]) -> tuple[PromptMessage, PromptMessage]:
    """Returns the messages; the user's has parts only if there are images, as other servers may take text alone."""
    instructions = {"role": "system", "content": system}
    if not shown:
        return instructions, {"role": "user", "content": user}
    parts: list[dict[str, Any]] = []
    for label, image in shown:
        url = f"data:image/jpeg;base64,{base64.b64encode(image).decode('ascii')}"
        parts += [{"type": "text", "text": label}, {"type": "image_url", "image_url": {"url": url}}]
    return instructions, {"role": "user", "content": [*parts, {"type": "text", "text": user}]}


def _shown_part(part: Mapping[str, Any]) -> str:
    if part["type"] == "text":
        return str(part["text"])
    return f"(a JPEG, {len(part['image_url']['url']) * 3 // 4:,} bytes)"


# --- tokens ----------------------------------------------------------------------------------------------------------


def _tokens(*lines: str) -> int:
    """Returns the tokens of lines, each with its end."""
    return sum(estimate_tokens(line) + 1 for line in lines)


def _fixed_tokens(template: PromptTemplate, language_line: str) -> int:
    """Returns the tokens of what no question changes, but for the line that names the language."""
    empty = dict.fromkeys(template.placeholders, "") | {"language": language_line}
    delimiters = sum(_tokens(_delimited(name, "-")) for name in ("profile", "conversation"))
    return estimate_tokens(template.system) + _tokens(template.fill(empty)) + delimiters


def _total_tokens(system: str, user: str, shown: Sequence[tuple[str, bytes]], settings: GenerateSettings) -> int:
    words = estimate_tokens(system) + estimate_tokens(user)
    return words + _image_tokens(shown, settings) + 2 * _MESSAGE_TOKENS


def _image_tokens(shown: Sequence[tuple[str, bytes]], settings: GenerateSettings) -> int:
    return sum(settings.image_tokens + _tokens(label) for label, _ in shown)
