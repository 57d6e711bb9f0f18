"""Assigns the processes of `penstock up` to components, so that memory and CPU time can be reported by component."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Component(StrEnum):
    """A component of `penstock up`."""

    INGEST = "ingest"
    QUERY = "query"
    BROKER = "broker"
    STORE = "store"
    RAY = "ray"
    SUPERVISOR = "supervisor"


_RAY_ACTOR = "ray::"  # how Ray names a worker process that runs an actor
_OF_RAY = ("ray::IDLE", "ray::Dashboard", "ray::RuntimeEnv")
_OF_QUERY = ("ray::Serve", "ray::Proxy", "ray::Replica")


def component_of(command: Sequence[str]) -> Component:
    """Returns the component of a process, by its command line."""
    line = " ".join(command)
    if line.startswith(_RAY_ACTOR):
        if line.startswith(_OF_RAY):
            return Component.RAY
        return Component.QUERY if line.startswith(_OF_QUERY) else Component.INGEST
    if "kafka.Kafka" in line:
        return Component.BROKER
    if "milvus_lite" in line:
        return Component.STORE
    if command and command[-1] in ("ingest", "serve") and "penstock.cli.main" in command:
        return Component.INGEST if command[-1] == "ingest" else Component.QUERY
    return Component.SUPERVISOR if "penstock.cli.main" in command else Component.RAY
