"""Step 3 for text: bytes → passages on sentence borders, with offsets into the text that they were cut from.

1 characters     charset, see `charsets`
2 plain text     markup removed, see `markup`; control characters dropped, whitespace made uniform
3 sentences      by sentencex, whose rules serve all scripts that mark the end of a sentence
4 passages       sentences packed up to the encoder's tokens, the last ones repeated at the head of the next passage
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

from penstock.config import TextSettings
from penstock.encoders.base import Tokenizer
from penstock.errors import BadInputError, Reason
from penstock.media.sniff import HTML, MARKDOWN, PLAIN
from penstock.media.text.charsets import decode_charset
from penstock.media.text.markup import BLOCK, LINE, html_text, markdown_text
from penstock.records import FetchedMedia

logger = logging.getLogger(__name__)

_TITLE_CHARS = 300

_CHARS_PER_TOKEN = 16
"""Bounds a passage where tokens do not: one word of any length may count as one token ("unknown")."""
_MOST_PASSAGE_CHARS = 16_000
"""Four octets a character at most in UTF-8, and the store holds 65,535 octets of text in a row."""

_BLOCK_CHARS = 4_000
"""Most that sentencex sees at once: it takes time with the square of quotes that never close (measured, 1.0.32)."""

_COUNT_AT_ONCE = 1_000
"""Sentences counted in one call of the tokenizer: enough for its threads, few enough to stop early."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: `document.text[start_char:end_char] == text`."""

    text: str
    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True)
class TextDocument:
    """A decoded text: what a reader sees of it, its title ("" if it has none), and its passages, at least one."""

    text: str
    title: str
    passages: tuple[Passage, ...]


def decode_text(fetched: FetchedMedia, *, settings: TextSettings, tokenizer: Tokenizer) -> TextDocument:
    """Decodes a text and cuts it into passages.

    Sentences are found by the punctuation of all scripts (`.` `。` `।` `؟` …), whatever the language. Thai, Lao and
    others that write none are cut on spaces and, where there are none, between characters.

    Raises:
        BadInputError: CORRUPT if it is of no charset, or no text is in it; TOO_LARGE at more than `max_passages`.
    """
    decoded = decode_charset(fetched.data, declared=fetched.event.content_type)
    raw, title = _READERS.get(fetched.mime, _as_it_is)(decoded)
    text = normalize_text(raw)
    if not text:
        raise BadInputError(
            Reason.CORRUPT, f"no text in it: {len(fetched.data):,} bytes of {fetched.mime}, none of it words"
        )
    title = normalize_text(title).replace("\n", " ")[:_TITLE_CHARS].strip()
    return TextDocument(text, title, tuple(cut_passages(text, settings=settings, tokenizer=tokenizer)))


def _as_it_is(text: str) -> tuple[str, str]:
    return text, ""


def _html(text: str) -> tuple[str, str]:
    return html_text(_without_separators(text))


def _markdown(text: str) -> tuple[str, str]:
    return markdown_text(_without_separators(text))


_READERS: Mapping[str, Callable[[str], tuple[str, str]]] = {PLAIN: _as_it_is, HTML: _html, MARKDOWN: _markdown}


# --- plain text ------------------------------------------------------------------------------------------------------

_SPACES = re.compile(r"[^\S\n]+")
_AROUND_LINE_ENDS = re.compile(r" *\n *")
_EMPTY_LINES = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028]")
# Controls, noncharacters and halves of surrogate pairs: nothing that a reader sees. Joiners and bidi marks stay.
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0e-\\x1d\\x7f-\\x84\\x86-\\x9f\\ufeff\\ufdd0-\\ufdef\\ufffe\\uffff\\ud800-\\udfff]"
)


def normalize_text(text: str) -> str:
    """Without control characters; one space between words, one line end between lines, two between paragraphs."""
    text = _LINE_ENDS.sub("\n", text).replace(BLOCK, "\n\n").replace(LINE, "\n").replace("\u2029", "\n\n")
    text = _SPACES.sub(" ", _UNSEEN.sub("", text))
    return _EMPTY_LINES.sub("\n\n", _AROUND_LINE_ENDS.sub("\n", text)).strip()


def _without_separators(text: str) -> str:
    """Marked-up text, whose line ends mean no more than spaces, before the marks for blocks and lines come into it."""
    return text.replace(BLOCK, "").replace(LINE, "")


# --- sentences -------------------------------------------------------------------------------------------------------

_Span = tuple[int, int]  # start and end within the text, characters


def _sentences(text: str) -> Iterator[_Span]:
    """Spans of the sentences, spaces around them left out.

    Read in blocks: a paragraph, or 4,000 characters of a longer one, whose last sentence then begins the next block.
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
    """Where the block ends that begins at `start`, on a space if it can be, and whether a paragraph ends there."""
    end = text.find("\n\n", start, start + _BLOCK_CHARS)
    if end >= 0:
        return end + 2, True
    if len(text) <= start + _BLOCK_CHARS:
        return len(text), True
    end = start + _BLOCK_CHARS
    space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
    return space + 1 if space > start else end, False


def _split(block: str) -> list[str]:
    """Sentences that make up the block again when joined; the block itself where sentencex gives up.

    It fails by a Rust panic, which is no `Exception`, on a space outside ASCII before a full stop. `normalised` leaves
    no such spaces, so this guards against what we have not met.
    """
    try:
        sentences: list[str] = sentencex.segment("en", block)
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        logger.warning("sentencex failed on a block of %d characters; it stays whole", len(block))
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
    """A sentence, or a part of one that is longer than a passage."""

    start: int
    end: int
    tokens: int


def cut_passages(text: str, *, settings: TextSettings, tokenizer: Tokenizer) -> list[Passage]:
    """Packs sentences into passages of at most `passage_tokens`, repeating up to `overlap_tokens` of whole ones.

    Tokens of a passage are taken as the sum over its sentences, which is exact for tokenizers that split on spaces
    first, as WordPiece does. A passage has at most 16 characters a token, so that unknown words cannot swell it.

    Raises:
        BadInputError: TOO_LARGE as soon as there are more than `max_passages`.
    """
    most_chars = min(_CHARS_PER_TOKEN * settings.max_passage_tokens, _MOST_PASSAGE_CHARS)
    passages: list[Passage] = []
    for start, end in _packed(_pieces(text, most_chars, settings, tokenizer), most_chars, settings):
        if len(passages) == settings.max_passages:
            detail = f"more than {settings.max_passages:,} passages in {len(text):,} characters; see text.max_passages"
            raise BadInputError(Reason.TOO_LARGE, detail)
        passages.append(Passage(text[start:end], start, end))
    return passages


def _packed(pieces: Iterable[_Piece], most_chars: int, settings: TextSettings) -> Iterator[_Span]:
    packed: deque[_Piece] = deque()
    tokens = 0
    for piece in pieces:
        if packed and not _fits(packed, tokens, piece, settings.max_passage_tokens, most_chars):
            yield packed[0].start, packed[-1].end
            packed = _overlap(packed, settings.overlap_tokens)
            tokens = sum(each.tokens for each in packed)
            while packed and not _fits(packed, tokens, piece, settings.max_passage_tokens, most_chars):
                tokens -= packed.popleft().tokens
        packed.append(piece)
        tokens += piece.tokens
    if packed:
        yield packed[0].start, packed[-1].end


def _fits(packed: deque[_Piece], tokens: int, piece: _Piece, passage_tokens: int, most_chars: int) -> bool:
    return tokens + piece.tokens <= passage_tokens and piece.end - packed[0].start <= most_chars


def _overlap(packed: deque[_Piece], overlap_tokens: int) -> deque[_Piece]:
    """The last pieces, as many as come to `overlap_tokens`; never all, or the next passage would hold this one."""
    kept: deque[_Piece] = deque()
    for piece in reversed(packed):
        overlap_tokens -= piece.tokens
        if overlap_tokens < 0 or len(kept) == len(packed) - 1:
            break
        kept.appendleft(piece)
    return kept


def _pieces(text: str, most_chars: int, settings: TextSettings, tokenizer: Tokenizer) -> Iterator[_Piece]:
    """Sentences with their tokens, in order; those that no passage can hold in halves, and halves of these."""
    spans = (part for span in _sentences(text) for part in _shortened(text, span, most_chars))
    while batch := list(itertools.islice(spans, _COUNT_AT_ONCE)):
        yield from _counted(text, batch, settings, tokenizer)


def _counted(text: str, spans: list[_Span], settings: TextSettings, tokenizer: Tokenizer) -> Iterator[_Piece]:
    counts = tokenizer.count([text[start:end] for start, end in spans])
    for span, tokens in zip(spans, counts, strict=True):
        if tokens <= settings.max_passage_tokens or span[1] - span[0] == 1:
            yield _Piece(*span, tokens)
        else:
            yield from _counted(text, _halves(text, span), settings, tokenizer)


def _shortened(text: str, span: _Span, most_chars: int) -> list[_Span]:
    if span[1] - span[0] <= most_chars:
        return [span]
    return [part for half in _halves(text, span) for part in _shortened(text, half, most_chars)]


def _halves(text: str, span: _Span) -> list[_Span]:
    """Two parts, cut on the space nearest to the middle; without one, in the middle, not before a combining mark."""
    start, end = span
    middle = (start + end) // 2
    before = max(text.rfind(" ", start, middle), text.rfind("\n", start, middle))
    after = min((at for at in (text.find(" ", middle, end), text.find("\n", middle, end)) if at >= 0), default=-1)
    spaces = [at for at in (before, after) if at >= 0]
    cut = min(spaces, key=lambda at: abs(at - middle)) if spaces else _between_characters(text, middle, end)
    halves = (_trimmed(text, start, cut), _trimmed(text, cut, end))
    return [half for half in halves if half[0] < half[1]]


def _between_characters(text: str, at: int, end: int) -> int:
    """The next place from `at` where no accent, vowel sign or joiner would lose what it belongs to."""
    for place in range(at, min(end, at + 16)):
        if not unicodedata.category(text[place]).startswith("M") and "\u200d" not in text[place - 1 : place + 1]:
            return place
    return at
