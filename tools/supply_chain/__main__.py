"""Compares the licences of what is shipped with the policy (`check`), or writes the bill of materials (`sbom FILE`)."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from tools.supply_chain.bill import bill_of_materials
from tools.supply_chain.licences import ROOT, Policy, findings, shipped_packages


def main() -> int:
    """Runs the command, and returns its exit code: 1 if a licence does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="compare the licences of what is shipped with policy.toml")
    commands.add_parser("sbom", help="write the bill of materials").add_argument("file", type=Path)
    options = parser.parse_args()
    packages, policy = shipped_packages(), Policy.read()
    if options.command == "sbom":
        version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        options.file.write_text(bill_of_materials(version, packages, policy), "utf-8")
        return 0
    problems = list(findings(packages, policy))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
