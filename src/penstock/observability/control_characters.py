"""Escapes the characters that terminals and readers of logs obey instead of showing.

Keys, titles, texts and addresses are whatever a producer or a caller sent. In a terminal ESC clears the screen or
writes the clipboard, in a log a line feed begins a line of its own, and marks of direction make a line read
otherwise than it is. Shown as `\\x1b`, `\\n` and `\\u202e` they do nothing.
"""

from __future__ import annotations

import re

# C0, DEL and C1; the line and paragraph separators; embeddings, overrides and isolates of direction (UAX #9), and lone
# halves of surrogate pairs, which no output can encode. Joiners stay: emoji and some scripts need them.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_line(text: str) -> str:
    """Returns a text on one line, in which every character that would be obeyed is an escape."""
    return _OBEYED.sub(_escape, text)


def escape_lines(text: str) -> str:
    """Returns a text with its line feeds and tabs, and every other character that would be obeyed as an escape."""
    return _OBEYED.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def escape_json(document: str) -> str:
    """Returns a JSON document in which also what its writer leaves as it is is escaped, but line feeds."""
    return _OBEYED.sub(lambda match: match[0] if match[0] in "\n\t" else f"\\u{ord(match[0]):04x}", document)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
