"""Runs all rules over the files of a repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tools.vocabulary.docstrings import check_docstrings, read_package
from tools.vocabulary.identifiers import check_class_names, check_identifiers, check_names
from tools.vocabulary.limits import aliases_of_any, check_any, check_sizes
from tools.vocabulary.rules import RULES, Rules, load_rules
from tools.vocabulary.sources import PACKAGE, SCOPE, Finding, Source, area_of, read_sources
from tools.vocabulary.words import check_words


def check(root: Path, paths: Sequence[str] = (), rules: Rules | None = None) -> list[Finding]:
    """Returns the findings at or below these paths, by default all of `SCOPE`, in order of path and line.

    The whole package is read in any case: duplicate classes and documented base methods may lie elsewhere.
    """
    rules = rules or load_rules()
    sources = read_sources(root, paths or SCOPE)
    findings = rules.without_exempt(_findings(root, sources, rules), report_unused=not paths)
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.rule))


def count_table(findings: Iterable[Finding]) -> str:
    """Returns a table of the number of findings by package or folder and by rule."""
    counts = Counter((area_of(finding.path), finding.rule) for finding in findings)
    areas = sorted({area for area, _ in counts})
    rules = [rule for rule in RULES if any(key[1] == rule for key in counts)]
    width = max(map(len, [*areas, "total"]))
    lines = ["  ".join([" " * width, *rules, "total"])]
    for area in [*areas, "total"]:
        row = [
            sum(count for key, count in counts.items() if area in ("total", key[0]) and key[1] == rule)
            for rule in rules
        ]
        cells = [
            str(value or "-").rjust(len(title))
            for value, title in zip([*row, sum(row)], [*rules, "total"], strict=True)
        ]
        lines.append("  ".join([area.ljust(width), *cells]))
    return "\n".join(lines)


def _findings(root: Path, sources: dict[str, Source], rules: Rules) -> Iterator[Finding]:
    package = read_sources(root, [PACKAGE])
    package.update({path: source for path, source in sources.items() if source.in_package})
    definitions = read_package(package.values())
    aliases = {alias for source in package.values() for alias in aliases_of_any(source)}
    for source in sources.values():
        yield from check_words(source, rules)
        yield from check_docstrings(source, definitions)
        yield from check_names(source, rules)
        yield from check_identifiers(source, rules)
        yield from check_sizes(source)
        yield from check_any(source, aliases)
    yield from (finding for finding in check_class_names(package) if finding.path in sources)
