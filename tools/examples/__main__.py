"""Indexes worked examples in memory and runs the searches of their pages.

    python -m tools.examples [products] [cases] [voice] [service]

Needs no broker and no store: the steps of the ingest plane run in this process, with the models of the profile
`reference`, and a query plane listens on a free port of this machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from penstock.cli import main as cli
from penstock.cli.render import say
from tools.examples.readme import NAMES, ROOT, data_of, page_of, shown_searches
from tools.examples.served_index import serve_examples


def main() -> int:
    """Runs the examples; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.examples", description=__doc__)
    parser.add_argument("examples", nargs="*", choices=[*NAMES, []], help="examples to run; all if none is named")
    names = parser.parse_args().examples or list(NAMES)
    os.chdir(ROOT)  # the commands of the pages name files from there
    with tempfile.TemporaryDirectory() as folder, serve_examples(Path(folder), names) as url:
        for name in names:
            say(f"\n{name}: {data_of(name).relative_to(ROOT)}, {page_of(name).relative_to(ROOT)}")
            for search in shown_searches(page_of(name)):
                say(f"\n$ {search.command}")
                if status := cli.main(["search", *search.arguments, "--limit", "3", "--url", url]):
                    return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
