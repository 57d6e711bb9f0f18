"""Reads the file of the prompt's text, which a user may replace, and fills it in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.config import GenerateSettings
from penstock.errors import ConfigError
from penstock.query.generate.tokens import estimate_tokens

PACKAGED_TEMPLATE = Path(__file__).with_name("template.txt")
REQUIRED = frozenset({"sources", "question"})
OPTIONAL = frozenset({"profile", "history", "language"})
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
_HEADINGS = ("[system]", "[user]")
_MAX_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The text of a prompt.

    Attributes:
        system: the instructions, which no question changes.
        user: the lines of the message, with placeholders such as `{{sources}}`.
    """

    system: str
    user: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """Returns the message, with each placeholder replaced by its value, which is not looked through again."""
        lines: list[str] = []
        for line in self.user:
            filled = _PLACEHOLDER.sub(lambda match: values[match[1].strip()], line)
            if filled.strip() or not _PLACEHOLDER.search(line):
                lines.append(filled)
        return "\n".join(lines).strip("\n")

    @property
    def placeholders(self) -> frozenset[str]:
        """Returns the names of its placeholders."""
        return frozenset(match[1].strip() for line in self.user for match in _PLACEHOLDER.finditer(line))


@cache
def packaged_template() -> PromptTemplate:
    """Returns the template that the package has."""
    return parse_template(PACKAGED_TEMPLATE.read_text("utf-8"), str(PACKAGED_TEMPLATE))


def load_template(settings: GenerateSettings) -> PromptTemplate:
    """Reads the template of the settings, or the packaged one.

    Raises:
        ConfigError: it cannot be read, is no template, with its line, or leaves too little room.
    """
    template = packaged_template() if settings.template is None else _read(settings.template)
    tokens = estimate_tokens("\n".join((template.system, *template.user)))
    room = settings.context_tokens - settings.max_tokens
    if tokens * 2 > room:
        raise ConfigError(
            f"generate.context_tokens leaves {room} for a prompt, and its template takes some {tokens} of them: it may "
            "take half"
        )
    return template


def _read(path: Path) -> PromptTemplate:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"generate.template: {path} cannot be read: {exc}") from exc
    if len(text) > _MAX_CHARS:
        raise ConfigError(f"generate.template: {path} has more than {_MAX_CHARS:,} characters")
    return parse_template(text, str(path))


def parse_template(text: str, name: str) -> PromptTemplate:
    """Returns the template that a text is.

    Args:
        text: the content of the file.
        name: of the file, for messages.

    Raises:
        ConfigError: it is none.
    """
    sections = _sections(text, name)
    used: set[str] = set()
    for number, line in sections["[user]"]:
        for match in _PLACEHOLDER.finditer(line):
            placeholder = match[1].strip()
            if placeholder not in REQUIRED | OPTIONAL:
                names = ", ".join(f"{{{{{known}}}}}" for known in sorted(REQUIRED | OPTIONAL))
                raise ConfigError(f"{name}:{number}: {match[0]} is no placeholder; there are {names}")
            if placeholder in used:
                raise ConfigError(f"{name}:{number}: {match[0]} is there twice")
            used.add(placeholder)
    if missing := sorted(REQUIRED - used):
        raise ConfigError(f"{name}: [user] has no {{{{{missing[0]}}}}}")
    for number, line in sections["[system]"]:
        if varying := _PLACEHOLDER.search(line):
            raise ConfigError(f"{name}:{number}: {varying[0]} in [system], which has to be the same for all questions")
    system = "\n".join(line for _, line in sections["[system]"]).strip()
    return PromptTemplate(system, tuple(line for _, line in _trimmed(sections["[user]"])))


def _sections(text: str, name: str) -> dict[str, list[tuple[int, str]]]:
    """Returns the lines of each section with their numbers in the file."""
    sections: dict[str, list[tuple[int, str]]] = {}
    lines: list[tuple[int, str]] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        heading = line.strip()
        if heading in _HEADINGS:
            if heading in sections:
                raise ConfigError(f"{name}:{number}: {heading} is there twice")
            lines = sections[heading] = []
        elif lines is not None:
            lines.append((number, line.rstrip()))
        elif line.strip() and not line.startswith("#"):
            raise ConfigError(f"{name}:{number}: text before the first heading, which is [system] or [user]")
    for heading in _HEADINGS:
        if heading not in sections:
            raise ConfigError(f"{name}: there is no heading {heading}")
    return sections


def _trimmed(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    while lines and not lines[-1][1]:
        lines = lines[:-1]
    return lines
