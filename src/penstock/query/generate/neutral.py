"""Makes text of others safe to stand in a prompt: it stays readable, and can be nothing but data.

Texts, titles, transcripts and the conversation come from producers and users. In a prompt they could end the part that
they stand in, begin a message of another role with the tokens of a chat template, forge citations, or hide instructions
in characters that no reader sees. No list of such tokens is complete, so the characters that all of them need are
replaced by others that look alike.
"""

from __future__ import annotations

import regex

# Square brackets make markers of citations and tokens such as [INST]; these have no other use that a reader needs.
# Angle brackets make all other tokens of chat templates, and the delimiters of the prompt.
_LOOKALIKES = str.maketrans("[]［］<>＜＞⟦⟧", "()（）‹›‹›()")
# Brackets of Chinese and Japanese titles, which some models write as markers: only around digits.
_CJK_MARKER = regex.compile(r"[【〔〖]([\s\p{N}†,，、:–-]*)[】〕〗]")
# Joiners are needed to write some scripts and emoji, and invisible everywhere else.
_EMOJI = r"\p{Extended_Pictographic}"
_JOINED = "".join(
    rf"\p{{{script}}}"
    for script in (
        "Arabic", "Syriac", "Mongolian", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu",
        "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar",
    )
)  # fmt: skip
_JOINER = rf"(?<=[{_JOINED}{_EMOJI}\p{{EMod}}\ufe0f])[\u200c\u200d](?=[{_JOINED}{_EMOJI}])"
_EMOJI_STYLE = r"(?<=[\p{Extended_Pictographic}#*0-9])\ufe0f"
# Control, format (directions, zero widths, tags) and private characters, and others that show nothing.
_HIDDEN = regex.compile(
    rf"({_JOINER}|{_EMOJI_STYLE})|[\p{{C}}\p{{Default_Ignorable_Code_Point}}\u2800&&[^\s]]", regex.V1
)
_MAX_MARKS = 4  # on a letter; no orthography stacks more
_STACKED = regex.compile(rf"(\p{{M}}{{{_MAX_MARKS}}})\p{{M}}+")
_BLANKS = regex.compile(r"\s+")
_LINE_END = regex.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def neutral(text: str, *, lines: bool = False) -> str:
    """Returns a text that can be put into a prompt.

    Args:
        text: of any origin.
        lines: whether its lines remain; otherwise it becomes one line, in which nothing can pose as a part of the
            prompt.
    """
    shown = _HIDDEN.sub(lambda match: match[1] or "", text.translate(_LOOKALIKES))
    shown = _STACKED.sub(r"\1", shown)
    shown = _CJK_MARKER.sub(r"(\1)", shown)
    if not lines:
        line: str = _BLANKS.sub(" ", shown)
        return line.strip()
    split = [_BLANKS.sub(" ", part).strip() for part in _LINE_END.split(shown)]
    return "\n".join(part for part in split if part)


def neutral_name(text: str, max_chars: int = 120) -> str:
    """Returns a title or the name of a file for a prompt, in which it stands between quotation marks."""
    name = neutral(text).replace('"', "”")
    return name if len(name) <= max_chars else f"{name[: max_chars - 1].rstrip()}…"
