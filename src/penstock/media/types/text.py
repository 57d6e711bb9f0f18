"""Whether bytes are text, and the kinds of text: plain, HTML, Markdown and those that are no prose.

A producer's declaration separates kinds of text, which no magic number does.
"""

from __future__ import annotations

import codecs
import re

from penstock.media.types.base import Sniffed
from penstock.media.types.documents import DOCUMENT, EMAIL, PDF, is_message
from penstock.media.types.images import plain_image_type
from penstock.records import Modality

PLAIN, HTML, MARKDOWN = "text/plain", "text/html", "text/markdown"

BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL_CODES = {*range(32), 127} - set(b"\t\n\v\f\r\x1b")
_CONTROLS = bytes(_CONTROL_CODES)
_CONTROL_CHARS = re.compile("[" + "".join(f"\\x{code:02x}" for code in sorted(_CONTROL_CODES)) + "\x80-\x9f]")
_CONTROL_SHARE = 0.02  # a stray NUL or bell is dropped later; random bytes have 11 % of these

_DECLARED = {
    "text/html": HTML,
    "application/xhtml+xml": HTML,
    "text/markdown": MARKDOWN,
    "text/x-markdown": MARKDOWN,
    "text/plain": PLAIN,
}
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*(utf-?16(?:le|be|-le|-be)?)\b""", re.IGNORECASE)


def is_text_beyond_doubt(head: bytes, declared: str | None) -> bool:
    """Returns whether printable letters at its start, such as `GIF89a` or `ID3`, are words and no signature.

    That is so in UTF-8 without control characters, and in a declared text that looks like one: the header of every
    binary format has some.
    """
    if _declared_kind(declared) is not None:
        return looks_like_text(head, declared)
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return not head.translate(None, _PRINTABLE_AND_UTF8)


_PRINTABLE_AND_UTF8 = bytes(set(range(256)) - _CONTROL_CODES)


def looks_like_text(head: bytes, declared: str | None = None) -> bool:
    """Returns whether the head has a byte order mark, is UTF-16 without one, or has almost no control characters."""
    if any(head.startswith(mark) for mark, _ in BOMS) or utf16_without_mark(head, declared):
        return True
    return len(head) - len(head.translate(None, _CONTROLS)) <= _CONTROL_SHARE * len(head)


def utf16_without_mark(head: bytes, declared: str | None = None) -> str | None:
    """Returns `utf-16-le` or `utf-16-be` for UTF-16 without a byte order mark; else None.

    Where it is declared, what it decodes to has to be text. Otherwise nearly every second byte has to be NUL too, and
    almost no other, as in the alphabets of Western Europe.
    """
    named = _CHARSET.search(declared or "")
    if named is not None:
        charset = "utf-16-be" if named[1].lower().endswith("be") else "utf-16-le"
        return charset if _decodes_to_text(head, charset) else None
    pairs = len(head) // 2
    if pairs < 2 or head.count(0) < pairs // 2:
        return None
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    for charset, high, low in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if high > 0.7 * pairs and low < 0.05 * pairs:
            return charset if _decodes_to_text(head, charset) else None
    return None


def _decodes_to_text(head: bytes, charset: str) -> bool:
    """Returns whether the bytes are of the charset, with almost no control characters: small numbers have many."""
    try:
        text = codecs.getincrementaldecoder(charset)("strict").decode(head)
    except UnicodeDecodeError:
        return False
    return bool(text) and len(_CONTROL_CHARS.findall(text)) <= _CONTROL_SHARE * len(text)


# --- kinds -----------------------------------------------------------------------------------------------------------

# https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type, and HTML's newer elements
_HTML_START = re.compile(
    r"(?:<!--(?:(?!-->).){0,4096}-->\s*|<\?xml[^>]*>\s*)*+<(?:!doctype\s+html|html|head|script|iframe|h[1-6]|div|font"
    r"|table|a|style|title|b|body|br|p|article|section|main|nav|header|ul|ol|span|meta|link|img|blockquote)[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_HTML_DOCUMENT = re.compile(
    r"(?:<!--(?:(?!-->).){0,4096}-->\s*)*+<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
# Drawing programs declare entities within the document type, in brackets.
_SVG_START = re.compile(
    r"(?:<\?xml[^>]*>|<!--(?:(?!-->).){0,4096}-->|<!doctype\s+svg[^>\[]*(?:\[[^\]]{0,16384}\]\s*)?>|\s)*+"
    r"<(?:\w{1,32}:)?svg[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_HEADING = re.compile(r"(?:\A|\n[ \t]*\n)#{1,6} \S[^\n]*\n[ \t]*\n")
_MARKDOWN_MARKS = (
    re.compile(r"\]\([^\s()]+\)"),  # a link or image
    re.compile(r"^(?:```|~~~)", re.MULTILINE),  # a fence
    re.compile(r"\*\*[^\s*][^*\n]{0,200}\*\*"),  # bold
    re.compile(r"^[ \t]{0,3}[-*+] \S[^\n]*\n[ \t]{0,3}[-*+] \S", re.MULTILINE),  # a list
    re.compile(r"\n[ \t]*\n#{1,6} \S[^\n]*\n[ \t]*\n[\s\S]*\n[ \t]*\n#{1,6} \S"),  # more headings
)
# Documents in ASCII whose letters are mostly not those that a reader sees. A text about one of these formats has its
# first mark, but not the second.
_NO_PROSE = (
    (_SVG_START, "image/svg+xml"),
    (re.compile(r"\{\\rtf\d*\s*[\\{]"), "application/rtf"),
    (re.compile(r"%!PS(?:-Adobe-\d[^\n]*)?\n(?=[\s\S]*(?:\n%%|/|\bshowpage\b))"), "application/postscript"),
    (re.compile(r"%PDF-\d\.\d[^\S\n]*+\n(?=[\s\S]*\b\d+ \d+ obj\b)"), PDF),
)


def kind_of_text(head: bytes, declared: str | None) -> Sniffed:
    """Returns the kind of a text.

    It is HTML if it starts as the WHATWG's MIME Sniffing Standard defines for HTML, or is declared so. It is Markdown
    if declared so, or if it is not declared as anything particular and has a heading between blank lines and a second
    mark of Markdown. A declared `text/plain` is never Markdown, but may be HTML.
    """
    text = _as_text(head, declared)
    if no_prose := next((mime for pattern, mime in _NO_PROSE if pattern.match(text)), None):
        return Sniffed(no_prose, DOCUMENT if no_prose == PDF else None)
    if is_message(text, declared):
        return Sniffed(EMAIL, DOCUMENT)
    kind = _declared_kind(declared)
    if kind is None and (image := plain_image_type(head)):
        return Sniffed(image, Modality.IMAGE)
    return Sniffed(_kind_of_prose(text, kind), Modality.TEXT)


def _kind_of_prose(text: str, declared: str | None) -> str:
    if declared is HTML or _HTML_DOCUMENT.match(text):
        return HTML
    if declared is MARKDOWN:
        return MARKDOWN
    if _HTML_START.match(text):
        return HTML
    if declared is None and _HEADING.search(text) and any(mark.search(text) for mark in _MARKDOWN_MARKS):
        return MARKDOWN
    return PLAIN


def _declared_kind(declared: str | None) -> str | None:
    return _DECLARED.get((declared or "").partition(";")[0].strip().lower())


def _as_text(head: bytes, declared: str | None) -> str:
    """Decodes the head well enough to find markup, which is ASCII in every charset that matters."""
    charset = next((name for mark, name in BOMS if head.startswith(mark)), None) or utf16_without_mark(head, declared)
    text = head.decode(charset, "replace") if charset else head.decode("utf-8", "replace")
    return text.lstrip().replace("\r\n", "\n")
