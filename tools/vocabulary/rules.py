"""The word lists and exceptions of words.toml and exceptions.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tools.vocabulary.sources import Finding, Kind

HERE = Path(__file__).parent
RULES: Mapping[str, str] = {
    "word": "a word or phrase with a better one",
    "opening": "a docstring that opens with What, Who, Where, How ...",
    "docstring": "a public module, class or function without a docstring",
    "long-opening": "a docstring whose first sentence is over 20 words",
    "verb": "a docstring of a function whose first word is no verb",
    "name": "a variable or parameter that says nothing of what it holds",
    "identifier": "an identifier in src with a word that has a better one",
    "class-twice": "a class name that is defined more than once",
    "class-shadows": "a class name that shadows one of Python's own",
    "size": "a module, class or function over its limit",
    "any": "`Any` in the signature of a public function",
    "exception": "an exception that matches nothing",
}


@dataclass(frozen=True, slots=True)
class Exemption:
    """A row of exceptions.toml: findings that are right as they stand."""

    rule: str
    reason: str
    paths: Sequence[str] = ("*",)
    text: str = ""

    def covers(self, finding: Finding) -> bool:
        """Returns whether the finding is right as it stands."""
        if finding.rule != self.rule or not _matches(finding.path, self.paths):
            return False
        if not self.text:
            return True
        if not finding.around:
            return re.fullmatch(self.text, finding.subject) is not None
        hits = re.finditer(self.text.replace(" ", r"\s+"), finding.around, re.IGNORECASE)
        return any(hit.start() <= finding.at < hit.end() for hit in hits)


@dataclass(frozen=True, slots=True)
class Rules:
    """All word lists, compiled.

    Attributes:
        words: one expression for all banned words, with a named group for each.
        replacements: what to write, by the name of the group.
        kinds: the passages that a word is banned in, by the name of the group; absent for all.
        names: what to write, by banned variable name.
        identifiers: what to write, by banned word of an identifier.
        data: globs of the files whose strings are sample data.
    """

    words: re.Pattern[str]
    replacements: Mapping[str, str]
    kinds: Mapping[str, Sequence[Kind]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    identifiers: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[str] = ()
    exemptions: Sequence[Exemption] = ()

    def holds_data(self, path: str) -> bool:
        """Returns whether the strings of a file are sample data, which is not checked."""
        return _matches(path, self.data)

    def without_exempt(self, findings: Iterable[Finding], *, report_unused: bool = False) -> Iterator[Finding]:
        """Yields the findings that no exception covers, then the exceptions that covered none, if requested."""
        unused = set(self.exemptions)
        for finding in findings:
            covering = [exemption for exemption in self.exemptions if exemption.covers(finding)]
            unused.difference_update(covering)
            if not covering:
                yield finding
        for exemption in self.exemptions if report_unused else ():
            if exemption in unused:
                message = f"exception {exemption.text or exemption.paths[0]!r} of rule {exemption.rule} matches nothing"
                yield Finding("tools/vocabulary/exceptions.toml", 1, "exception", f"{message} (remove it)", "")


def load_rules(folder: Path = HERE) -> Rules:
    """Reads words.toml and exceptions.toml.

    Raises:
        ValueError: an exception has no reason or names no rule.
    """
    lists = tomllib.loads((folder / "words.toml").read_text(encoding="utf-8"))
    exceptions = tomllib.loads((folder / "exceptions.toml").read_text(encoding="utf-8"))
    exemptions = [
        Exemption(row["rule"], row.get("reason", ""), tuple(row.get("paths", ["*"])), row.get("text", ""))
        for row in exceptions.get("allow", [])
    ]
    for exemption in exemptions:
        if exemption.rule not in RULES or not exemption.reason:
            raise ValueError(f"exceptions.toml: {exemption} needs a reason and one of the rules {', '.join(RULES)}")
    words = {f"w{index}": row for index, row in enumerate(lists["word"])}
    alternatives = [f"(?P<{group}>{_spaced(row['find'])})" for group, row in words.items()]
    return Rules(
        words=re.compile(rf"(?<![A-Za-z])(?:{'|'.join(alternatives)})(?![A-Za-z])", re.IGNORECASE),
        replacements={group: row["write"] for group, row in words.items()},
        kinds={group: row["kinds"] for group, row in words.items() if "kinds" in row},
        names={name: row["write"] for row in lists["name"] for name in row["names"]},
        identifiers={word: row["write"] for row in lists["identifier"] for word in row["words"]},
        data=[path for row in exceptions.get("data", []) for path in row["paths"]],
        exemptions=exemptions,
    )


def _spaced(pattern: str) -> str:
    """Lets a space match white space, an underscore or a hyphen, so that phrases in names count too."""
    return pattern.replace(" ", r"[\s_-]+")


def _matches(path: str, globs: Sequence[str]) -> bool:
    return any(fnmatch(path, glob) for glob in globs)
