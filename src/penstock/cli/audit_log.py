"""`penstock audit-log verify`: whether the lines of an audit log are those that were written."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_line, say

_MAX_SHOWN = 20

app = typer.Typer(help="Check the audit log, the record of actions.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Makes `verify` a command of its own, although it is the only one."""


@app.command("verify")
def verify(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Files of one log, the oldest first. Default: that of the settings."),
    ] = None,
    *,
    begins_anywhere: Annotated[
        bool, typer.Option("--begins-anywhere", help="Older files are gone: let chains begin with any number.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check that no line of an audit log was changed, removed or added since it was written.

    Each process writes a chain of lines, each of which has the hash of the line before it. A change of the last line
    and the removal of a chain's end cannot be noticed. Exits with 1 if something does not fit.
    """
    from penstock.errors import UsageError
    from penstock.observability.audit_chain import verify as verify_lines
    from penstock.observability.audit_log import audit_log_file

    paths = files or [audit_log_file(read_settings(context))]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise UsageError(f"there is no file {missing[0]}")
    with ExitStack() as opened:
        lines = itertools.chain.from_iterable(opened.enter_context(path.open("rb")) for path in paths)
        report = verify_lines(lines, begins_anywhere=begins_anywhere)
    if as_json:
        print_json(asdict(report))
    else:
        for problem in report.problems[:_MAX_SHOWN]:
            print_line(problem)
        say(f"{report.lines:,} lines of {report.chains:,} chains: {len(report.problems):,} problems")
    raise typer.Exit(1 if report.problems else 0)
