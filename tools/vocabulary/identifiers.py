"""Checks the names of variables, functions, classes and modules."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from tools.vocabulary.rules import Rules
from tools.vocabulary.sources import Finding, Source

_PYTHONS_OWN = frozenset({*dir(builtins), *collections.abc.__all__, *typing.__all__, "Field"})  # pydantic's Field too


def check_names(source: Source, rules: Rules) -> Iterator[Finding]:
    """Yields variables, parameters, loop targets and class fields that say nothing of what they hold."""
    for name, line in _variables(source):
        if write := rules.names.get(name.strip("_")):
            yield Finding(source.path, line, "name", f"variable `{name}` (write {write})", name)


def check_identifiers(source: Source, rules: Rules) -> Iterator[Finding]:
    """Yields identifiers defined in the package that contain a banned word, and modules named with one."""
    if not source.in_package:
        return
    package_path = PurePosixPath(source.path).relative_to("src").with_suffix("").parts
    names = [*((part, 1) for part in package_path), *_variables(source), *_definition_names(source)]
    for name, line in dict.fromkeys(names):
        for word in split_identifier(name):
            if write := rules.identifiers.get(word):
                yield Finding(source.path, line, "identifier", f"identifier `{name}` (write {write})", name)


def check_class_names(sources: Mapping[str, Source]) -> Iterator[Finding]:
    """Yields class names of the package that are defined twice, or shadow a name of Python's own."""
    places: dict[str, list[tuple[str, int]]] = {}
    for source in sources.values():
        for node in source.nodes if source.in_package else ():
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append((source.path, node.lineno))
    for name, defined in places.items():
        for path, line in defined:
            others = ", ".join(f"{other}:{at}" for other, at in defined if (other, at) != (path, line))
            if others:
                message = f"class `{name}` is also defined in {others} (write a name of its own)"
                yield Finding(path, line, "class-twice", message, name)
            if name in _PYTHONS_OWN:
                message = f"class `{name}` shadows a name of Python's own (write another)"
                yield Finding(path, line, "class-shadows", message, name)


def split_identifier(name: str) -> list[str]:
    """Splits snake case and camel case into words in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _variables(source: Source) -> Iterator[tuple[str, int]]:
    """Yields the names that are bound, with their lines; attributes of objects are left out."""
    for node in source.nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case _:
                pass


def _definition_names(source: Source) -> Iterator[tuple[str, int]]:
    """Yields the names of functions, classes, import aliases and attributes that are assigned."""
    for node in source.nodes:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.alias(asname=str(name)):
                yield name, node.lineno
            case _:
                pass
