"""Source files and documents, and the passages of text in them."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
SCOPE = (
    "src", "tests", "benchmarks", "ops", "tools", "docs", "README.md", "Makefile", "pyproject.toml", "CHANGELOG.md",
    "CONTRIBUTING.md",
)  # fmt: skip
PACKAGE = "src/penstock"

Kind: TypeAlias = Literal["comment", "docstring", "string", "document"]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        subject: the matched word or name, with which exceptions are compared.
        around: the text before and after a matched word.
        at: where the word begins in `around`.
    """

    path: str
    line: int
    rule: str
    message: str
    subject: str
    around: str = ""
    at: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text in a file, and the lines that it starts and ends on."""

    kind: Kind
    line: int
    end_line: int
    text: str

    def line_at(self, offset: int) -> int:
        """Returns the line of a character; exact unless the text has escaped line ends."""
        return min(self.line + self.text.count("\n", 0, offset), self.end_line)


@dataclass(frozen=True)
class Source:
    """A file of the repository. Anything but Python is one passage of kind `document`."""

    path: str
    text: str

    @property
    def in_package(self) -> bool:
        return self.path.startswith(f"{PACKAGE}/") and self.path.endswith(".py")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; empty for anything but Python."""
        return ast.parse(self.text if self.path.endswith(".py") else "", self.path)

    @cached_property
    def nodes(self) -> Sequence[ast.AST]:
        """All nodes of the tree. Walking it once instead of once a rule halves the time of the check."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def docstrings(self) -> Sequence[ast.Constant]:
        """The strings that stand alone as a statement, those that describe a constant included."""
        statements = [node.value for node in self.nodes if isinstance(node, ast.Expr)]
        return [node for node in statements if isinstance(node, ast.Constant) and isinstance(node.value, str)]

    def passages(self) -> Iterator[Passage]:
        """Yields comments, docstrings and string literals, or the whole of a document."""
        if not self.path.endswith(".py"):
            yield Passage("document", 1, self.text.count("\n") + 1, self.text)
            return
        yield from _comments(self.text)
        docstrings = {id(node) for node in self.docstrings}
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                kind: Kind = "docstring" if id(node) in docstrings else "string"
                yield Passage(kind, node.lineno, node.end_lineno or node.lineno, node.value)


def read_sources(root: Path, paths: Sequence[str] = SCOPE) -> dict[str, Source]:
    """Reads the Python files and documents at or below these paths, by their path from `root`.

    Raises:
        ValueError: a path lies outside `root`.
    """
    sources: dict[str, Source] = {}
    for path in paths:
        start = (root / path).resolve()
        files = sorted(start.rglob("*")) if start.is_dir() else [start]
        for file in files:
            name = file.relative_to(root.resolve())
            is_text = file.suffix in {".py", ".md"} or file == start
            if file.is_file() and is_text and not any(part.startswith(".") for part in name.parts):
                sources[name.as_posix()] = Source(name.as_posix(), file.read_text(encoding="utf-8"))
    return sources


def area_of(path: str) -> str:
    """Returns the package or folder that a file is counted under: `src/penstock/store`, `tests/store`, `docs`."""
    parts = PurePosixPath(path).parts
    depth = {"src": 3, "tests": 2}.get(parts[0], 1)
    return "/".join(parts[:depth])


def definitions(source: Source) -> Iterator[tuple[Definition, ast.ClassDef | None, bool]]:
    """Yields the module, its classes and functions, each with the class around it and whether it is public.

    A definition within a function is left out: it is neither public nor measured by itself.
    """
    stem = PurePosixPath(source.path).stem
    module_public = not stem.startswith("_") or stem == "__init__"
    yield source.tree, None, module_public
    yield from _definitions_in(source.tree.body, None, module_public)


def _definitions_in(
    body: Sequence[ast.stmt], owner: ast.ClassDef | None, public: bool
) -> Iterator[tuple[Definition, ast.ClassDef | None, bool]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node_public = public and not node.name.startswith("_")
            yield node, owner, node_public
            if isinstance(node, ast.ClassDef):
                yield from _definitions_in(node.body, node, node_public)
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions_in([*node.body, *node.orelse], owner, public)


def _comments(text: str) -> Iterator[Passage]:
    """Yields comments; those on consecutive lines at one column as one passage."""
    block: list[str] = []
    start = column = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        row, col = token.start
        if block and (row, col) != (start + len(block), column):
            yield Passage("comment", start, start + len(block) - 1, "\n".join(block))
            block = []
        if not block:
            start, column = row, col
        block.append(token.string.lstrip("# "))
    if block:
        yield Passage("comment", start, start + len(block) - 1, "\n".join(block))
