from __future__ import annotations

import pytest

from benchmarks.components import Component, component_of


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (["ray::LaneHost"], Component.INGEST),
        (["ray::decode-0"], Component.INGEST),
        (["ray::_Host.call"], Component.INGEST),
        (["ray::IDLE"], Component.RAY),
        (["ray::DashboardAgent"], Component.RAY),
        (["ray::RuntimeEnvAgent"], Component.RAY),
        (["ray::ServeController"], Component.QUERY),
        (["ray::ServeReplica:penstock:query"], Component.QUERY),
        (["ray::ProxyActor"], Component.QUERY),
        (["/usr/bin/java", "-Xmx512m", "kafka.Kafka", "server.properties"], Component.BROKER),
        (["python", "-m", "milvus_lite", "server"], Component.STORE),
        (["python", "-m", "penstock.cli.main", "-v", "ingest"], Component.INGEST),
        (["python", "-m", "penstock.cli.main", "-v", "serve"], Component.QUERY),
        (["python", "-m", "penstock.cli.main", "up"], Component.SUPERVISOR),
        (["/ray/core/src/ray/raylet/raylet", "--node"], Component.RAY),
        (["python", "-m", "penstock.embedded.ray"], Component.RAY),
        ([], Component.RAY),
    ],
)
def test_a_process_is_told_by_its_command(command: list[str], part: Component) -> None:
    assert component_of(command) is part
