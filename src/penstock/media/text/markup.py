"""Extracts the visible text and the title of HTML and Markdown documents.

Both parsers are libraries'. The code here bounds the time that they take on input crafted to stall them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from selectolax.lexbor import LexborHTMLParser, LexborNode

# Marks in the extracted text, which `passages.normalize_text` replaces.
BLOCK = "\x1e"  # start or end of a block, replaced by an empty line; U+001E, "record separator"
LINE = "\x1f"  # end of a line within a block; U+001F, "unit separator"

# --- HTML ------------------------------------------------------------------------------------------------------------

# fmt: off
_DROPPED = frozenset((
    "audio", "button", "canvas", "head", "iframe", "math", "nav", "noscript", "object", "script", "select", "style",
    "svg", "template", "textarea", "video",
))
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hgroup", "hr", "legend", "li", "main", "menu", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot",
    "thead", "tr", "ul",
))
# fmt: on
_CELLS = frozenset(("td", "th"))
_AROUND_TITLE = frozenset(("head", "body", "html"))

# Lexbor's time grows with the square of nesting: 8,000 nested tags take at most 0.8 s, 100,000 a minute (measured).
_MAX_TAGS = 8_000
_PIECE_TAGS = 1_000

_TAG = re.compile(r"<[a-zA-Z]")
_BLOCK_TAG = re.compile(
    r"<(?:p|div|h[1-6]|ul|ol|dl|li|table|tr|section|article|blockquote|pre|hr|main|header|footer)\b", re.IGNORECASE
)
_OPAQUE = re.compile(r"<(?:(!--)|(script|style|nav|noscript|template)\b)", re.IGNORECASE)
_TITLE_WITHIN_CHARS = 262_144


def html_text(html: str) -> tuple[str, str]:
    """Returns the text of a page with `BLOCK` and `LINE` marks, and its title ("" if it has none).

    A page of more than 8,000 tags is parsed in pieces of about 1,000, cut where a block begins, so that the time grows
    only linearly.
    """
    return "".join(_fragment_text(piece) for piece in _pieces(html)), _html_title(html)


def _html_title(html: str) -> str:
    """Returns the title of the page, not that of a drawing in it; "" if it has none."""
    tags = list(itertools.islice(_TAG.finditer(html, 0, _TITLE_WITHIN_CHARS), _PIECE_TAGS + 1))
    end = tags[-1].start() if len(tags) > _PIECE_TAGS else _TITLE_WITHIN_CHARS
    for title in LexborHTMLParser(html[:end]).css("title"):
        if title.parent is not None and title.parent.tag in _AROUND_TITLE:
            return title.text().strip()
    return ""


def _fragment_text(html: str) -> str:
    body = LexborHTMLParser(html).body
    return "" if body is None else "".join(_walk(body))


def _walk(body: LexborNode) -> Iterator[str]:
    """Yields the words of a tree in order, without recursion, so that deep nesting cannot exhaust the stack."""
    stack: list[LexborNode | str] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif node.tag == "-text":
            yield node.text_content or ""
        elif node.tag == "br":
            yield LINE
        elif node.tag not in _DROPPED:
            separator = BLOCK if node.tag in _BLOCKS else " " if node.tag in _CELLS else ""
            children = list(node.iter(include_text=True))
            stack.append(separator)
            stack.extend(reversed(children))
            yield separator


def _pieces(html: str) -> Iterable[str]:
    tags = [match.start() for match in _TAG.finditer(html)]
    if len(tags) <= _MAX_TAGS:
        return (html,)
    return _cut(_without_opaque(html))


def _cut(html: str) -> Iterator[str]:
    """Yields pieces of 1,000 tags and up to the next block, or of 2,000 where no block begins."""
    start = count = 0
    for match in _TAG.finditer(html):
        count += 1
        if count >= 2 * _PIECE_TAGS or (count >= _PIECE_TAGS and _BLOCK_TAG.match(html, match.start())):
            yield html[start : match.start()]
            start, count = match.start(), 0
    yield html[start:]


def _without_opaque(html: str) -> str:
    """Removes comments and elements with invisible content in one pass, so that no cut falls into one."""
    kept, at = [], 0
    lower = html.lower() if html.isascii() else "".join(char.lower() if char < "\x80" else char for char in html)
    while match := _OPAQUE.search(html, at):
        kept.append(html[at : match.start()])
        end_mark = "-->" if match[1] else f"</{match[2].lower()}"
        end = lower.find(end_mark, match.end())
        if end < 0:  # never closed: it hides the rest of the page, as in a browser
            return "".join(kept)
        at = lower.find(">", end) + 1 or len(html)
    kept.append(html[at:])
    return "".join(kept)


# --- Markdown --------------------------------------------------------------------------------------------------------

# markdown-it-py reads 1.4 MB/s of prose and 50 KB/s of brackets; a longer text is indexed with its markup.
_MAX_MARKDOWN_CHARS = 1_000_000

_MARKDOWN_CELLS = ("td_open", "td_close", "th_open", "th_close")

_markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])


# Fields before the text, which generators of sites and note-taking programs read: YAML between ---, TOML between +++.
# Each line is read in one way only, so that text without an end mark takes no longer.
_FRONT_MATTER = re.compile(
    r"\A(?P<fence>---|\+\+\+)[ \t]*+\n"
    r"(?P<fields>(?:(?!(?:(?P=fence)|\.\.\.)[ \t]*+(?:\n|\Z))"
    r"(?:[ \t].*+|[\w.\"'-]{1,60}[ \t]*+[:=].*+|[#\-\[].*+)?+\n){1,200}+)"
    r"(?:(?P=fence)|\.\.\.)[ \t]*+(?:\n|\Z)"
)
_TITLE_FIELD = re.compile(r"^title[ \t]*+[:=](?P<title>.*+)$", re.MULTILINE)


def markdown_text(source: str) -> tuple[str, str]:
    """Returns the text of a Markdown document with `BLOCK` and `LINE` marks, and its title ("" if it has none).

    That is the first heading, else the field `title` of the front matter, which itself is no text.
    """
    front_matter = _FRONT_MATTER.match(source)
    field = None if front_matter is None else _TITLE_FIELD.search(front_matter["fields"])
    title = "" if field is None else field["title"].strip().strip("\"'").strip()
    if front_matter is not None:
        source = source[front_matter.end() :]
    if len(source) > _MAX_MARKDOWN_CHARS:
        return source, title
    tokens = _markdown.parse(source)
    return "".join(_render(tokens)), _first_heading(tokens) or title


def _render(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield _inline(token.children or ())
        elif token.type in ("fence", "code_block"):
            yield BLOCK + token.content.replace("\n", LINE)
        elif token.type == "html_block":
            yield BLOCK + html_text(token.content)[0]
        elif token.type in _MARKDOWN_CELLS:
            yield " "
        elif token.block:
            yield BLOCK


def _inline(tokens: Sequence[Token]) -> str:
    parts = []
    for token in tokens:
        if token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type == "image":
            parts.append(_inline(token.children or ()))
        elif token.type == "softbreak":
            parts.append("\n")
        elif token.type == "hardbreak":
            parts.append(LINE)
    return "".join(parts)


def _first_heading(tokens: Sequence[Token]) -> str:
    for opening, content in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            return _inline(content.children or ()).replace("\n", " ").replace(LINE, " ").strip()
    return ""
