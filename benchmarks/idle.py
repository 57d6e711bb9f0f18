"""Measures what an idle `penstock up` takes: memory and CPU time of each of its processes.

    python -m benchmarks.idle                       # profile reference, default settings, 60 s
    python -m benchmarks.idle --set ingest.modalities='["text"]'

Memory is PSS (proc(5), smaps_rollup). CPU time is that of a window which begins once everything is ready and `--settle`
seconds are over; it contains the canary, as the default settings do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.components import component_of
from benchmarks.host_info import machine_facts
from benchmarks.stack import LocalStack, running_stack, stack_settings, temporary_folder
from penstock.cli.render import print_table
from penstock.embedded.supervisor import CANARY_INTERVAL_S
from penstock.records import Modality

_SYSTEM = (
    ("raylet/raylet", "raylet"),
    ("gcs_server", "GCS"),
    ("dashboard/dashboard.py", "Ray's dashboard"),
    ("dashboard/agent.py", "Ray's dashboard agent"),
    ("runtime_env/agent", "Ray's runtime environment agent"),
    ("log_monitor.py", "Ray's log monitor"),
    ("autoscaler/_private/monitor.py", "Ray's autoscaler"),
    ("penstock.embedded.ray", "Ray's head"),
    ("kafka.Kafka", "Kafka"),
    ("milvus_lite", "Milvus Lite"),
    ("milvus run", "Milvus"),
)


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """The memory and CPU time of one process.

    Attributes:
        pid: its id.
        role: its readable name.
        component: as `component_of` has it.
        pss_mb: megabytes of PSS at the end of the window.
        cpu_s: CPU seconds within the window.
        threads: their number.
        wakes_per_s: voluntary context switches in a second, of threads that live through the window.
    """

    pid: int
    role: str
    component: str
    pss_mb: float
    cpu_s: float
    threads: int
    wakes_per_s: float


def role_of_process(command: Sequence[str]) -> str:
    """Returns a readable name of a process, by its command line."""
    line = " ".join(command).strip()
    if line.startswith("ray::"):
        return line
    for part, role in _SYSTEM:
        if part in line:
            return role
    if "penstock.cli.main" in command:
        return f"penstock {command[-1]}"
    return line[:60] or "unnamed"


def measure_idle(stack: LocalStack, seconds: float) -> list[ProcessCost]:
    """Returns the cost of each process that lives through the window, most memory first."""
    before = {process.pid: _counters(process) for process in stack.processes()}
    began_s = time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    costs = []
    for process in stack.processes():
        earlier, now = before.get(process.pid), _counters(process)
        if earlier is None or now is None:
            continue
        memory, command = process.memory_full_info(), process.cmdline()
        costs.append(
            ProcessCost(
                pid=process.pid,
                role=role_of_process(command),
                component=str(component_of(command)),
                pss_mb=memory.pss / 1e6,
                cpu_s=now[0] - earlier[0],
                threads=process.num_threads(),
                wakes_per_s=sum(count - earlier[1][thread] for thread, count in now[1].items() if thread in earlier[1])
                / took_s,
            )
        )
    return sorted(costs, key=lambda cost: -cost.pss_mb)


def _counters(process: psutil.Process) -> tuple[float, dict[str, int]] | None:
    """Returns (CPU seconds, voluntary context switches by thread) so far; None if the process has ended."""
    try:
        times = process.cpu_times()
        return times.user + times.system, _voluntary_switches(process.pid)
    except psutil.NoSuchProcess:
        return None


def _voluntary_switches(pid: int) -> dict[str, int]:
    """Returns the voluntary context switches of each thread of a process."""
    switches: dict[str, int] = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            text = status.read_text()
        except OSError:  # the thread has ended
            continue
        lines = text.splitlines()
        switches[status.parent.name] = next(
            int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")
        )
    return switches


def bench_idle(
    profile: str, seconds: float, settle_s: float, overrides: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Starts an `up` on a temporary folder, measures it without any load, and stops it."""
    # The defaults of `penstock up`, which `stack_settings` replaces.
    of_up: dict[str, dict[str, Any]] = {
        "canary": {"interval_s": CANARY_INTERVAL_S},
        "ingest": {"modalities": list(Modality)},
    }
    sections = {name: {**of_up.get(name, {}), **overrides.get(name, {})} for name in of_up.keys() | overrides.keys()}
    machine = machine_facts()
    with temporary_folder() as folder:
        began_s = time.monotonic()
        with running_stack(stack_settings(folder, profile=profile, store_uri=None, **sections)) as stack:
            start_s = time.monotonic() - began_s
            start_cpu_s = sum(stack.cpu_s().values())
            time.sleep(settle_s)
            costs = measure_idle(stack, seconds)
    return {
        "machine": machine,
        "profile": profile,
        "overrides": dict(overrides),
        "seconds": seconds,
        "start_s": start_s,
        "start_cpu_s": start_cpu_s,
        "pss_mb": sum(cost.pss_mb for cost in costs),
        "cores": sum(cost.cpu_s for cost in costs) / seconds,
        "processes": [asdict(cost) for cost in costs],
    }


def table(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table of processes."""
    return [
        {
            "process": cost["role"],
            "PSS MB": f"{cost['pss_mb']:.0f}",
            "CPU s": f"{cost['cpu_s']:.2f}",
            "% of a core": f"{100 * cost['cpu_s'] / figures['seconds']:.2f}",
            "threads": str(cost["threads"]),
            "wakes/s": f"{cost['wakes_per_s']:.0f}",
        }
        for cost in figures["processes"]
    ]


def parse_overrides(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns sections from `section.name=value`, with values in JSON where they are."""
    sections: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        section, _, setting = name.partition(".")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        sections.setdefault(section, {})[setting] = parsed
    return sections


def main() -> None:
    """Runs the measurement and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="reference")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--settle", type=float, default=20.0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    figures = bench_idle(arguments.profile, arguments.seconds, arguments.settle, parse_overrides(arguments.set))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    print_table(table(figures))
    sys.stdout.write(
        f"{len(figures['processes'])} processes, {figures['pss_mb'] / 1000:.2f} GB of PSS, {figures['cores']:.3f} of a "
        f"core; ready after {figures['start_s']:.0f} s and {figures['start_cpu_s']:.0f} s of CPU time; load before "
        f"{figures['machine']['load_before'][0]}\n"
    )


if __name__ == "__main__":
    main()
