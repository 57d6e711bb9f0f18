"""Checks that public definitions have docstrings, and how these begin."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from tools.vocabulary.sources import Definition, Finding, Source, definitions

MAX_FIRST_WORDS = 20
NOUN_CLAUSE = frozenset({"what", "who", "whose", "whom", "where", "how", "which", "when"})
_NOT_VERBS = frozenset({"this", "its", "as", "always", "perhaps", "bytes", "seconds", "milliseconds", "less", "us"})
_EXEMPT_DECORATORS = frozenset({"override", "overload", "setter", "deleter"})
_PROPERTIES = frozenset({"property", "cached_property"})
_COMMANDS = frozenset({"command", "callback"})  # Typer shows these docstrings as help, in the imperative

_VERBS = frozenset({"see"})  # an implementation may refer to the interface that documents it

Classes: TypeAlias = Mapping[str, Sequence[ast.ClassDef]]


@dataclass(frozen=True, slots=True)
class Package:
    """The definitions of the whole package that the check of one file depends on.

    Attributes:
        classes: by name; a base class may be in another file.
        commands: names of functions that are registered with Typer by a call such as `app.command("up")(up.up)`.
    """

    classes: Classes
    commands: frozenset[str] = frozenset()


def read_package(sources: Iterable[Source]) -> Package:
    """Collects the classes and the registered commands of these files."""
    classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
    commands: set[str] = set()
    for node in (node for source in sources for node in source.nodes):
        if isinstance(node, ast.ClassDef):
            classes[node.name].append(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and _last_name(node.func) in _COMMANDS:
            commands.update(_last_name(argument) for argument in node.args)
    return Package(classes, frozenset(commands))


def check_docstrings(source: Source, package: Package) -> Iterator[Finding]:
    """Yields docstrings that are missing or begin wrongly."""
    for constant in source.docstrings:
        if (word := _first_word(str(constant.value))).lower() in NOUN_CLAUSE:
            message = f"docstring opens with {word!r} (write a sentence with a verb: what it does or is)"
            yield Finding(source.path, constant.lineno, "opening", message, word)
    if not source.in_package:
        return
    for node, owner, public in definitions(source):
        if not public:
            continue
        if (text := ast.get_docstring(node)) is not None:
            yield from _check_opening(source, node, text, package.commands)
        elif not _may_omit(node, owner, package.classes):
            yield _finding(source, node, "docstring", f"{_name(node)} has no docstring (write what it does or is)")


def first_sentence(text: str) -> str:
    """Returns the text up to the first full stop or empty line."""
    return re.split(r"(?<=[.!?])\s|\n\s*\n", text.strip(), maxsplit=1)[0]


def starts_with_verb(text: str) -> bool:
    """Returns whether the first word may be a verb in the third person. An adverb may precede it."""
    words = re.findall(r"[A-Za-z'-]+", first_sentence(text))
    if words and words[0].endswith("ly") and len(words) > 1:
        words = words[1:]
    first = words[0].lower() if words else ""
    return first in _VERBS or (first.endswith("s") and "'" not in first and first not in _NOT_VERBS)


def _check_opening(source: Source, node: Definition, text: str, commands: Set[str]) -> Iterator[Finding]:
    sentence = first_sentence(text)
    count = sum(any(char.isalnum() for char in word) for word in sentence.split())
    if count > MAX_FIRST_WORDS:
        message = f"first sentence of {_name(node)} has {count} words (write at most {MAX_FIRST_WORDS})"
        yield _finding(source, node, "long-opening", message)
    word = _first_word(text)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or word.lower() in NOUN_CLAUSE:
        return
    if node.name not in commands and not _decorators(node) & (_PROPERTIES | _COMMANDS) and not starts_with_verb(text):
        message = f"docstring of {_name(node)} opens with {word!r} (write a verb: Returns, Reads, Yields ...)"
        yield _finding(source, node, "verb", message)


def _may_omit(node: Definition, owner: ast.ClassDef | None, classes: Classes) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    if _decorators(node) & _EXEMPT_DECORATORS:
        return True
    return owner is not None and _base_documents(node.name, owner, classes, frozenset())


def _base_documents(method: str, owner: ast.ClassDef, classes: Classes, visited: frozenset[str]) -> bool:
    for name in {_last_name(base) for base in owner.bases} - visited:
        for base in classes.get(name, ()):
            documented = any(
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name == method
                and ast.get_docstring(node)
                for node in base.body
            )
            if documented or _base_documents(method, base, classes, visited | {name}):
                return True
    return False


def _decorators(node: Definition) -> frozenset[str]:
    return frozenset(_last_name(decorator) for decorator in getattr(node, "decorator_list", ()))


def _last_name(node: ast.expr) -> str:
    """Returns the last name of a dotted one, without its subscript or call."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _first_word(text: str) -> str:
    match = re.match(r"\W*([A-Za-z']+)", text)
    return match[1] if match else ""


def _name(node: Definition) -> str:
    return "the module" if isinstance(node, ast.Module) else f"`{node.name}`"


def _finding(source: Source, node: Definition, rule: str, message: str) -> Finding:
    name = "" if isinstance(node, ast.Module) else node.name
    return Finding(source.path, getattr(node, "lineno", 1), rule, message, name)
