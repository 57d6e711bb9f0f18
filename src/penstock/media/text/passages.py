"""Step 3 of text: decodes bytes to passages at sentence ends, with their offsets in the decoded text.

1. Characters: decode the charset; see `charsets`.
2. Plain text: remove markup (see `markup`) and control characters, and normalise white space.
3. Sentences: split with sentencex, whose rules cover all scripts that mark the end of a sentence.
4. Passages: pack sentences up to the encoder's tokens, and repeat the last ones at the head of the next passage.
"""

from __future__ import annotations

import itertools
import logging
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import sentencex

from penstock.analysis.normal_form import normal_form
from penstock.config import TextSettings
from penstock.encoders.base import Tokenizer
from penstock.errors import BadInputError, Reason
from penstock.media.text.charsets import decode_charset
from penstock.media.text.markup import BLOCK, LINE, html_text, markdown_text
from penstock.media.types.text import HTML, MARKDOWN, PLAIN
from penstock.records import FetchedMedia

logger = logging.getLogger(__name__)

_MAX_TITLE_CHARS = 300
_MAX_CHARS_PER_TOKEN = 16  # bounds a passage where tokens do not: a word of any length may be one token ("unknown")
_MAX_PASSAGE_CHARS = 16_000  # at most four bytes a character in UTF-8; a row of the store holds 65,535 bytes of text
_MAX_BLOCK_CHARS = 4_000  # sentencex's time grows with the square of quotes that never close (measured, 1.0.32)
_COUNT_BATCH = 1_000  # sentences a call of the tokenizer: enough for its threads, few enough to stop early


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: `document.text[start_char:end_char] == text`."""

    text: str
    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True)
class TextDocument:
    """A decoded text.

    Attributes:
        text: its visible text.
        title: its title; "" if it has none.
        passages: at least one.
    """

    text: str
    title: str
    passages: tuple[Passage, ...]


def decode_text(fetched: FetchedMedia, *, settings: TextSettings, tokenizer: Tokenizer) -> TextDocument:
    """Decodes a text and cuts it into passages.

    Sentences end at the punctuation of any script (`.` `。` `।` `؟` …), in any language. Thai, Lao and others without
    such punctuation are cut at spaces and, where there are none, between characters.

    Raises:
        BadInputError: CORRUPT if its charset is unclear or it contains no text; TOO_LARGE above `max_passages`.
    """
    decoded = decode_charset(fetched.data, declared=fetched.event.content_type)
    raw, title = _READERS.get(fetched.mime, _unchanged)(decoded)
    text = normalize_text(raw)
    if not text:
        raise BadInputError(Reason.CORRUPT, f"{len(fetched.data):,} bytes of {fetched.mime} that contain no text")
    title = normalize_text(title).replace("\n", " ")[:_MAX_TITLE_CHARS].strip()
    return TextDocument(text, title, tuple(cut_passages(text, settings=settings, tokenizer=tokenizer)))


def _unchanged(text: str) -> tuple[str, str]:
    return text, ""


def _html(text: str) -> tuple[str, str]:
    return html_text(_without_separators(text))


def _markdown(text: str) -> tuple[str, str]:
    return markdown_text(_without_separators(text))


_READERS: Mapping[str, Callable[[str], tuple[str, str]]] = {PLAIN: _unchanged, HTML: _html, MARKDOWN: _markdown}


# --- plain text ------------------------------------------------------------------------------------------------------

_SPACES = re.compile(r"[^\S\n]+")
_AROUND_LINE_ENDS = re.compile(r" *\n *")
_EMPTY_LINES = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028]")
# Controls, noncharacters and halves of surrogate pairs, which are invisible. Joiners and bidi marks stay.
_INVISIBLE = re.compile(
    "[\\x00-\\x08\\x0e-\\x1d\\x7f-\\x84\\x86-\\x9f\\ufeff\\ufdd0-\\ufdef\\ufffe\\uffff\\ud800-\\udfff]"
)


def normalize_text(text: str) -> str:
    """Removes control characters, normalises white space, and gives what looks the same the same characters.

    One space separates words, one line end separates lines, and two separate paragraphs.
    """
    text = _LINE_ENDS.sub("\n", normal_form(text)).replace(BLOCK, "\n\n").replace(LINE, "\n").replace("\u2029", "\n\n")
    text = _SPACES.sub(" ", _INVISIBLE.sub("", text))
    return _EMPTY_LINES.sub("\n\n", _AROUND_LINE_ENDS.sub("\n", text)).strip()


def _without_separators(text: str) -> str:
    """Removes the marks for blocks and lines from markup, before its parser adds them."""
    return text.replace(BLOCK, "").replace(LINE, "")


# --- sentences -------------------------------------------------------------------------------------------------------

_Span = tuple[int, int]  # start and end within the text, characters


def sentence_spans(text: str) -> Iterator[_Span]:
    """Yields the spans of the sentences, without spaces around them.

    Text is split in blocks: a paragraph, or 4,000 characters of a longer one. The last sentence of such a block starts
    the next one.
    """
    start = 0
    while start < len(text):
        end, is_paragraph = _block_end(text, start)
        sentences = _split(text[start:end])
        if not is_paragraph and len(sentences) > 1:
            sentences = sentences[:-1]
        for sentence in sentences:
            span = _trimmed(text, start, start + len(sentence))
            start += len(sentence)
            if span[0] < span[1]:
                yield span


def _block_end(text: str, start: int) -> tuple[int, bool]:
    """Returns the end of the block that begins at `start`, at a space if there is one, and whether a paragraph ends."""
    end = text.find("\n\n", start, start + _MAX_BLOCK_CHARS)
    if end >= 0:
        return end + 2, True
    if len(text) <= start + _MAX_BLOCK_CHARS:
        return len(text), True
    end = start + _MAX_BLOCK_CHARS
    space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
    return space + 1 if space > start else end, False


def _split(block: str) -> list[str]:
    """Returns the sentences of a block, or the block itself where sentencex fails. Joined they are the block.

    It fails with a Rust panic, which is no `Exception`, on a space outside ASCII before a full stop. `normalize_text`
    leaves no such spaces, so this guards against other cases.
    """
    try:
        sentences: list[str] = sentencex.segment("en", block)
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        logger.warning("sentencex failed on a block of %d characters; the block stays whole", len(block))
        return [block]
    if sum(map(len, sentences)) != len(block) or "".join(sentences) != block:
        return [block]
    return sentences


def _trimmed(text: str, start: int, end: int) -> _Span:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


# --- passages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, or a part of a sentence that is longer than a passage."""

    start: int
    end: int
    tokens: int


def cut_passages(text: str, *, settings: TextSettings, tokenizer: Tokenizer) -> list[Passage]:
    """Packs sentences into passages of at most `passage_tokens`, repeating up to `overlap_tokens` of whole ones.

    The tokens of a passage are the sum over its sentences, which is exact for tokenizers that split on spaces first, as
    WordPiece does. A passage has at most 16 characters a token, so that unknown words cannot make it longer.

    Raises:
        BadInputError: TOO_LARGE as soon as there are more than `max_passages`.
    """
    max_chars = min(_MAX_CHARS_PER_TOKEN * settings.max_passage_tokens, _MAX_PASSAGE_CHARS)
    passages: list[Passage] = []
    for start, end in _packed(_pieces(text, max_chars, settings, tokenizer), max_chars, settings):
        if len(passages) == settings.max_passages:
            detail = f"more than {settings.max_passages:,} passages in {len(text):,} characters; see text.max_passages"
            raise BadInputError(Reason.TOO_LARGE, detail)
        passages.append(Passage(text[start:end], start, end))
    return passages


def _packed(pieces: Iterable[_Piece], max_chars: int, settings: TextSettings) -> Iterator[_Span]:
    packed: deque[_Piece] = deque()
    tokens = 0
    for piece in pieces:
        if packed and not _fits(packed, tokens, piece, settings.max_passage_tokens, max_chars):
            yield packed[0].start, packed[-1].end
            packed = _overlap(packed, settings.overlap_tokens)
            tokens = sum(kept.tokens for kept in packed)
            while packed and not _fits(packed, tokens, piece, settings.max_passage_tokens, max_chars):
                tokens -= packed.popleft().tokens
        packed.append(piece)
        tokens += piece.tokens
    if packed:
        yield packed[0].start, packed[-1].end


def _fits(packed: deque[_Piece], tokens: int, piece: _Piece, passage_tokens: int, max_chars: int) -> bool:
    return tokens + piece.tokens <= passage_tokens and piece.end - packed[0].start <= max_chars


def _overlap(packed: deque[_Piece], overlap_tokens: int) -> deque[_Piece]:
    """Returns the last pieces, up to `overlap_tokens`; never all, or the next passage would contain this one."""
    kept: deque[_Piece] = deque()
    for piece in reversed(packed):
        overlap_tokens -= piece.tokens
        if overlap_tokens < 0 or len(kept) == len(packed) - 1:
            break
        kept.appendleft(piece)
    return kept


def _pieces(text: str, max_chars: int, settings: TextSettings, tokenizer: Tokenizer) -> Iterator[_Piece]:
    """Yields sentences with their tokens, in order. One that no passage can hold is halved, and halved again."""
    spans = (part for span in sentence_spans(text) for part in _shortened(text, span, max_chars))
    while batch := list(itertools.islice(spans, _COUNT_BATCH)):
        yield from _counted(text, batch, settings, tokenizer)


def _counted(text: str, spans: list[_Span], settings: TextSettings, tokenizer: Tokenizer) -> Iterator[_Piece]:
    counts = tokenizer.count([text[start:end] for start, end in spans])
    for span, tokens in zip(spans, counts, strict=True):
        if tokens <= settings.max_passage_tokens or span[1] - span[0] == 1:
            yield _Piece(*span, tokens)
        else:
            yield from _counted(text, _halves(text, span), settings, tokenizer)


def _shortened(text: str, span: _Span, max_chars: int) -> list[_Span]:
    if span[1] - span[0] <= max_chars:
        return [span]
    return [part for half in _halves(text, span) for part in _shortened(text, half, max_chars)]


def _halves(text: str, span: _Span) -> list[_Span]:
    """Returns two parts, cut at the space nearest to the middle, or in the middle but not before a combining mark."""
    start, end = span
    middle = (start + end) // 2
    before = max(text.rfind(" ", start, middle), text.rfind("\n", start, middle))
    after = min((at for at in (text.find(" ", middle, end), text.find("\n", middle, end)) if at >= 0), default=-1)
    spaces = [at for at in (before, after) if at >= 0]
    cut = min(spaces, key=lambda at: abs(at - middle)) if spaces else _between_characters(text, middle, end)
    halves = (_trimmed(text, start, cut), _trimmed(text, cut, end))
    return [half for half in halves if half[0] < half[1]]


def _between_characters(text: str, at: int, end: int) -> int:
    """Returns the next index from `at` where a cut separates no accent, vowel sign or joiner from its character."""
    for index in range(at, min(end, at + 16)):
        if not unicodedata.category(text[index]).startswith("M") and "\u200d" not in text[index - 1 : index + 1]:
            return index
    return at
