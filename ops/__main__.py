"""Renders dashboards, rules, their tests and the page of alerts, checks that they are in step, or draws dashboards."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx

from ops.alert_page import alert_page
from ops.boards import every_board
from ops.drawing import draw
from ops.node import MissingProgramError
from ops.panels import render
from ops.prometheus import Prometheus, Span
from ops.rule_files import rule_files, rule_tests
from ops.slos import Objectives, read_objectives

ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = {"ops/dashboards": "*.json", "ops/rules": "*.yaml", "ops/rules/tests": "*.yaml"}


def rendered(objectives: Objectives) -> Mapping[str, str]:
    """Returns the text of every rendered file, by its path in the repository."""
    boards = every_board(objectives)
    runbooks = objectives.runbooks if objectives.publishes_runbooks else None
    files = {f"ops/dashboards/{board.uid}.json": render(board, boards, runbooks) for board in boards}
    files |= {f"ops/rules/{name}": text for name, text in rule_files(objectives).items()}
    files |= {f"ops/rules/tests/{name}": text for name, text in rule_tests(objectives).items()}
    return files | {"docs/alerts.md": alert_page(objectives, boards)}


def out_of_step(files: Mapping[str, str], root: Path) -> list[str]:
    """Returns the paths below a folder that are missing, differ, or should not be there."""
    present = {
        str(path.relative_to(root)) for folder, pattern in _FOLDERS.items() for path in (root / folder).glob(pattern)
    }
    differ = [path for path, text in files.items() if _read(root / path) != text]
    return sorted({*differ, *(present - files.keys())})


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> int:
    """Runs the command and returns its exit code: 1 if files are out of step."""
    parser = argparse.ArgumentParser(prog="python -m ops", description="Render, check or draw what operators look at.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (("render", "write what is out of step"), ("check", "name what is out of step")):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("--runbooks", metavar="URL", help="where runbooks are published (as in ops/slo.toml)")
    drawing = commands.add_parser("draw", help="draw each dashboard as PNG, with data of a Prometheus")
    drawing.add_argument("--prometheus", metavar="URL", default="http://127.0.0.1:9090", help="(%(default)s)")
    drawing.add_argument("--minutes", type=float, default=30, help="how much time until now is drawn (%(default)s)")
    drawing.add_argument(
        "--out", type=Path, metavar="FOLDER", default=ROOT / "docs/dashboards", help="(docs/dashboards)"
    )
    options = parser.parse_args()
    if options.command == "draw":
        return _draw(options.prometheus, options.minutes * 60, options.out)
    objectives = read_objectives()
    if options.runbooks:
        objectives = replace(objectives, runbooks=options.runbooks.rstrip("/"))
    files = rendered(objectives)
    stale = out_of_step(files, ROOT)
    if options.command == "check":
        print(*(f"{path} is out of step: run `python -m ops render`" for path in stale), sep="\n", end="")
        return 1 if stale else 0
    for path in stale:
        if path in files:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files[path], encoding="utf-8")
        else:
            (ROOT / path).unlink()
        print(path)
    return 0


def _draw(url: str, duration_s: float, folder: Path) -> int:
    end = time.time()
    span = Span(end - duration_s, end, max(1.0, duration_s / 240))
    try:
        images = draw(sorted((ROOT / "ops/dashboards").glob("*.json")), Prometheus(url), span, folder)
    except (MissingProgramError, httpx.HTTPError) as error:
        print(f"nothing was drawn: {error}", file=sys.stderr)
        return 1
    print(*images, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
