"""Checks the sizes of modules, classes and functions, and `Any` in public signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set

from tools.vocabulary.sources import Definition, Finding, Function, Source, definitions

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_METHODS = 20
MAX_ATTRIBUTES = 15
EXCUSE = "Over the limit because"
"""A docstring that has these words gives the reason for its size, and is not reported."""


def check_sizes(source: Source) -> Iterator[Finding]:
    """Yields what is larger than its limit and does not give the reason in its docstring."""
    if not source.in_package:
        return
    for node, _, _ in definitions(source):
        if EXCUSE in " ".join((ast.get_docstring(node) or "").split()):
            continue
        name = source.path if isinstance(node, ast.Module) else node.name
        for label, count, limit in _measures(source, node):
            if count > limit:
                message = f"`{name}` has {count} {label}, over {limit} (write smaller ones, or '{EXCUSE} ...')"
                yield Finding(source.path, getattr(node, "lineno", 1), "size", message, name)


def check_any(source: Source, aliases: Set[str]) -> Iterator[Finding]:
    """Yields the parameters and returns of public functions that are annotated with `Any`, or an alias of it.

    An array of any element type (`NDArray[Any]`) and the methods of Python's own protocols are left out.
    """
    if not source.in_package:
        return
    for node, _, public in definitions(source):
        if not public or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for label, annotation in _annotations(node):
            if any(name == "Any" or name in aliases for name in _names_in(annotation)):
                message = f"`{node.name}` has `{ast.unparse(annotation)}` for {label} (write the type)"
                yield Finding(source.path, annotation.lineno, "any", message, node.name)


def aliases_of_any(source: Source) -> Iterator[str]:
    """Yields the names that a module defines as another name of `Any`."""
    for node in source.tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Name) and value.id == "Any":
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _measures(source: Source, node: Definition) -> list[tuple[str, int, int]]:
    if isinstance(node, ast.Module):
        return [("lines", len(source.text.splitlines()), MAX_MODULE_LINES)]
    if isinstance(node, ast.ClassDef):
        methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)}
        return [
            ("methods", len(methods), MAX_METHODS),
            ("attributes", len(set(_attributes(node))), MAX_ATTRIBUTES),
        ]
    return [("lines", (node.end_lineno or node.lineno) - node.lineno + 1, MAX_FUNCTION_LINES)]


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yields the annotated fields of a class and the attributes that `__init__` assigns."""
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield child.target.id
        elif isinstance(child, ast.FunctionDef) and child.name == "__init__":
            for inner in ast.walk(child):
                match inner:
                    case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                        yield name
                    case _:
                        pass


def _annotations(node: Function) -> Iterator[tuple[str, ast.expr]]:
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is not None:
            yield f"`{argument.arg}`", argument.annotation
    if node.returns is not None:
        yield "its result", node.returns


def _names_in(annotation: ast.expr) -> Iterator[str]:
    """Yields the names of an annotation, in quotes or not, except those inside an array type."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from _names_in(ast.parse(annotation.value, mode="eval").body)
    elif isinstance(annotation, ast.Name):
        yield annotation.id
    elif isinstance(annotation, ast.Attribute):
        yield annotation.attr
    elif isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "NDArray":
        return
    else:
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                yield from _names_in(child)
