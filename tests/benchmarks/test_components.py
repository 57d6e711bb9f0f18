from __future__ import annotations

import pytest

from benchmarks.components import Part, part_of


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (["ray::LaneHost"], Part.INGEST),
        (["ray::decode-0"], Part.INGEST),
        (["ray::_Host.call"], Part.INGEST),
        (["ray::IDLE"], Part.RAY),
        (["ray::DashboardAgent"], Part.RAY),
        (["ray::RuntimeEnvAgent"], Part.RAY),
        (["ray::ServeController"], Part.QUERY),
        (["ray::ServeReplica:penstock:query"], Part.QUERY),
        (["ray::ProxyActor"], Part.QUERY),
        (["/usr/bin/java", "-Xmx512m", "kafka.Kafka", "server.properties"], Part.BROKER),
        (["python", "-m", "milvus_lite", "server"], Part.STORE),
        (["python", "-m", "penstock.cli.main", "-v", "ingest"], Part.INGEST),
        (["python", "-m", "penstock.cli.main", "-v", "serve"], Part.QUERY),
        (["python", "-m", "penstock.cli.main", "up"], Part.SUPERVISOR),
        (["/ray/core/src/ray/raylet/raylet", "--node"], Part.RAY),
        (["python", "-m", "penstock.embedded.ray"], Part.RAY),
        ([], Part.RAY),
    ],
)
def test_a_process_is_told_by_its_command(command: list[str], part: Part) -> None:
    assert part_of(command) is part
