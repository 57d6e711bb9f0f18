"""Verifies audit logs: each process writes a chain of lines, each with the hash of the line before it.

A change of a line is noticed at the line after it, a removed or added one by its number. Unnoticed remain a change of
the last line of a chain, and the removal of its end or of all of it: who may write the file can do that. A collector
that takes the lines away as they are written is what protects them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.observability.audit_log import FIRST


@dataclass(slots=True)
class ChainReport:
    """The result of a verification.

    Attributes:
        lines: that were read.
        chains: of processes.
        problems: each in words, with the number of its line.
    """

    lines: int = 0
    chains: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Chain:
    seq: int = -1
    sha256: str = FIRST


def verify(lines: Iterable[bytes], *, begins_anywhere: bool = False) -> ChainReport:
    """Verifies the lines of one audit log, of several files in the order in which they were written.

    Args:
        lines: with or without their ends.
        begins_anywhere: whether chains may begin in files that are not there any more.
    """
    report = ChainReport()
    chains: dict[str, _Chain] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip(b"\n")
        report.lines += 1
        try:
            document = json.loads(line)
            name, seq, previous = str(document["chain"]), int(document["seq"]), str(document["previous"])
        except (ValueError, KeyError, TypeError, RecursionError):
            report.problems.append(f"line {number} is not a line of an audit log")
            continue
        chain = chains.get(name)
        if chain is None:
            chain = chains[name] = _Chain(seq - 1, previous) if begins_anywhere else _Chain()
        if seq != chain.seq + 1:
            report.problems.append(f"line {number} has number {seq} of chain {name}, after number {chain.seq}")
        elif previous != chain.sha256:
            report.problems.append(
                f"line {number} does not follow from number {chain.seq} of chain {name}, which changed"
            )
        chain.seq, chain.sha256 = seq, hashlib.sha256(line).hexdigest()
    report.chains = len(chains)
    return report
