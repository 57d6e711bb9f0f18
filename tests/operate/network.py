"""Makes a bridge of the test's own, from which pods get their addresses and on which services listen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.operate.containers import LIMITS, podman


class Network:
    """A bridge of the test's own, from which pods get their addresses."""

    def __init__(self, name: str, subnet: str) -> None:
        self.name = name
        self.prefix = subnet.rpartition(".")[0]
        self.gateway = f"{self.prefix}.1"
        self._next = 10

    def take_address(self) -> str:
        """Returns an address that no pod had before."""
        self._next += 1
        return f"{self.prefix}.{self._next}"


@contextmanager
def bridge(name: str, image: str, subnet: str = "10.89.77.0/24") -> Iterator[Network]:
    """Yields a network whose bridge is there, so that services can listen on its gateway's address."""
    podman("rm", "--force", f"{name}-anchor")
    podman("network", "rm", "--force", name)
    for command in (
        ("network", "create", "--subnet", subnet, name),
        ("run", "--detach", "--name", f"{name}-anchor", *LIMITS, "--network", name, image, "sleep", "infinity"),
    ):
        done = podman(*command)
        if done.returncode:
            raise RuntimeError(done.stderr)
    try:
        yield Network(name, subnet)
    finally:
        podman("rm", "--force", "--time", "1", f"{name}-anchor")
        podman("network", "rm", "--force", name)
