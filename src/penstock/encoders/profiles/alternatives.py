"""Chooses among the alternatives that a profile's file gives for a role, by what is installed.

A role may be an array of tables instead of one table. Each has a name in the key `alternative`, and the first whose
packages are installed is taken. So a missing package costs one role its first choice, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from penstock.encoders.packages import find_file

TomlContent: TypeAlias = Mapping[str, object]

OFF = "off"
_KEY = "alternative"
_CHOICES = re.compile(r"(?P<file>.+?):(?P<choices>[a-z]+=[^=,:/]+(?:,[a-z]+=[^=,:/]+)*)")


@dataclass(frozen=True, slots=True)
class ChosenTables:
    """A profile's tables after the choice.

    Attributes:
        tables: the content of the file, with one table for each role.
        chosen: the name of the alternative by role, for roles that have alternatives; `off` where there is none.
        substitutions: for each role that lacks its first choice, a line that says what is used instead.
    """

    tables: TomlContent
    chosen: Mapping[str, str] = field(default_factory=dict)
    substitutions: tuple[str, ...] = ()


def split_choices(name: str) -> tuple[str, dict[str, str]]:
    """Splits the setting `profile`, such as `shelf:speech=tiny-en`, into the profile's name and the choices by role."""
    match = _CHOICES.fullmatch(name)
    if match is None:
        return name, {}
    return match["file"], dict(pair.split("=", 1) for pair in match["choices"].split(","))


def join_choices(name: str, chosen: Mapping[str, str]) -> str:
    """Returns the setting `profile` that gives these choices: the reverse of `split_choices`."""
    pairs = ",".join(f"{role}={alternative}" for role, alternative in sorted(chosen.items()))
    return f"{name}:{pairs}" if pairs else name


def choose(content: TomlContent, choices: Mapping[str, str], profile: str) -> ChosenTables:
    """Chooses one alternative for each role that has several.

    Args:
        content: of the profile's file.
        choices: alternatives by role that are settled already; they are taken whether installed or not.
        profile: its name, for the lines.

    Raises:
        ValueError: an alternative without a name, two of one name, or a choice of one that does not exist.
    """
    tables, chosen, substitutions = dict(content), dict[str, str](), list[str]()
    for role, alternatives in _roles_with_alternatives(content):
        names = _names(role, alternatives)
        requested = choices.get(role)
        if requested is not None and requested not in (*names, OFF):
            raise ValueError(f"{role} has no alternative {requested!r}; it has {', '.join((*names, OFF))}")
        name = requested or _first_installed(alternatives) or OFF
        chosen[role] = name
        if name == OFF:
            del tables[role]
        else:
            tables[role] = without_name(alternatives[names.index(name)])
        if name != names[0] and (missing := missing_of(alternatives[0])):
            instead = "the role is off" if name == OFF else f"using {name}"
            lacking = f"{role} model {names[0]} not installed ({', '.join(missing)})"
            substitutions.append(f"{profile}: {lacking}; {instead}")
    unknown = choices.keys() - chosen.keys()
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} has no alternatives to choose from")
    return ChosenTables(tables, chosen, tuple(substitutions))


def every_table(content: TomlContent) -> Iterator[TomlContent]:
    """Yields the content with each alternative of each role in turn, so that all of them can be checked."""
    first = dict(content)
    for role, alternatives in _roles_with_alternatives(content):
        first[role] = without_name(alternatives[0])
    yield first
    for role, alternatives in _roles_with_alternatives(content):
        for table in alternatives[1:]:
            yield first | {role: without_name(table)}


def without_name(table: TomlContent) -> dict[str, object]:
    """Returns an alternative as the plain table of its role."""
    return {key: value for key, value in table.items() if key != _KEY}


def missing_of(table: TomlContent) -> tuple[str, ...]:
    """Returns the packages that a role's table names and that are not installed.

    Those with a repository of the hub behind them do not count: the weights can come from there.
    """
    return tuple(dict.fromkeys(_missing(table)))


def offers_packages(content: TomlContent) -> bool:
    """Returns whether any alternative of any role has all its packages installed, and has packages at all."""
    return any(
        _names_packages(table) and not missing_of(table)
        for _, alternatives in _roles_with_alternatives(content)
        for table in alternatives
    )


def _roles_with_alternatives(content: TomlContent) -> Iterator[tuple[str, list[TomlContent]]]:
    for role, value in content.items():
        if isinstance(value, list) and value and all(isinstance(table, Mapping) for table in value):
            yield role, value


def _names(role: str, alternatives: list[TomlContent]) -> list[str]:
    names = [table.get(_KEY) for table in alternatives]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or name == OFF:
            raise ValueError(
                f"each [[{role}]] needs a name of lower-case letters, digits, dots and hyphens in the key {_KEY}, "
                f"not {name!r}"
            )
        if names.count(name) > 1:
            raise ValueError(f"two [[{role}]] have the name {name!r}")
    return [str(name) for name in names]


def _first_installed(alternatives: list[TomlContent]) -> str | None:
    return next((str(table[_KEY]) for table in alternatives if not missing_of(table)), None)


def _weights(value: object) -> Iterator[TomlContent]:
    """Yields the tables of weights that name a package, at any depth."""
    if isinstance(value, Mapping):
        if "package" in value and "repo" not in value:
            yield value
        for part in value.values():
            yield from _weights(part)


def _names_packages(table: TomlContent) -> bool:
    return any(True for _ in _weights(table))


def _missing(table: TomlContent) -> Iterator[str]:
    for weights in _weights(table):
        parts = weights.get("parts") or [f"{weights['package']}:{weights.get('file', '')}"]
        assert isinstance(parts, list)
        for part in parts:
            package, _, path = str(part).partition(":")
            if find_file(package, path) is None:
                yield package
