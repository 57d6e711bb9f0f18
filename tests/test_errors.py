"""Checks that the tree at the head of errors.py is complete, and that errors survive pickling."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest

from penstock import errors
from penstock.errors import BadInputError, OverloadedError, PenstockError, QueryError, Reason, WorkerLostError

PACKAGE = Path(errors.__file__).parent
DRAWN = re.compile(r"^ +[│├└─ ]*(?P<name>\w+Error)\b(?:.* \((?P<module>[a-z_.]+)\)$)?")


def _drawn() -> dict[str, str]:
    """Returns the errors of the tree with the module that each names, if any."""
    matches = [DRAWN.match(line) for line in (errors.__doc__ or "").splitlines()]
    return {match["name"]: match["module"] or "errors" for match in matches if match is not None}


def _defined() -> dict[str, str]:
    """Returns the error classes of the package with the modules that define them."""
    return {
        node.name: ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_")
    }


def test_the_tree_shows_every_error_of_the_package() -> None:
    drawn, defined = _drawn(), _defined()
    assert set(drawn) == set(defined)
    assert {name: module for name, module in defined.items() if not module.startswith(drawn[name])} == {}


@pytest.mark.parametrize(
    "error",
    [
        BadInputError(Reason.CORRUPT, "m"),
        QueryError("m", status=413, field="/text"),
        WorkerLostError("m", blamed=True, hung=True),
        OverloadedError("m", retry_after_s=2.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_keep_their_data_when_pickled(error: PenstockError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, vars(copy)) == (error.args, vars(error))
