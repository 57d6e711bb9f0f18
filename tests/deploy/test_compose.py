"""The compose file runs what the chart runs, with the same settings, and says when each service is ready."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from penstock.config import load_settings
from tests.helm.rendering import render

_DEPLOY = Path(__file__).parents[2] / "deploy"
_ADDRESSES = {
    ("kafka", "bootstrap_servers"),
    ("store", "uri"),
    ("canary", "query_url"),
    ("metrics", "urls"),
    ("query", "url"),
}
_OURS = ("ray-head", "ray-worker", "driver", "query")


@cache
def _services() -> Mapping[str, Any]:
    """Returns the services as podman-compose reads them, with everything resolved.

    For this it needs no podman, but its version; a machine without one answers by a script.
    """
    with TemporaryDirectory() as folder:
        podman = Path(folder) / "podman"
        podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
        podman.chmod(0o700)
        options = ("--podman-path", str(podman), "--file", str(_DEPLOY / "compose.yaml"))
        command = [sys.executable, "-m", "podman_compose", *options, "config"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    services: Mapping[str, Any] = yaml.safe_load(printed)["services"]
    return services


def test_every_service_of_the_system_is_there() -> None:
    assert set(_services()) >= {"kafka", "milvus", "s3", "redis", *_OURS, "prometheus", "grafana"}


def test_the_settings_are_those_of_the_chart() -> None:
    compose = tomllib.loads((_DEPLOY / "compose" / "penstock.toml").read_text("utf-8"))
    chart = tomllib.loads(render().settings())
    assert (compose.pop("auth"), chart.pop("auth")["mode"]) == ({"allow_anonymous": True}, "keys")
    assert chart["kafka"].pop("tenants") == "header"  # needed with keys alone
    # The key that replays are signed by comes from a Secret there, and from a file that a variable names here.
    assert chart.pop("replay").keys() == {"key_file"}
    assert chart.pop("media_links").keys() == {"key_file"}  # compose has one replica, whose data folder keeps one
    assert "PENSTOCK_REPLAY__KEY_FILE" in _services()["driver"]["environment"]
    assert _without_addresses(compose) == _without_addresses(chart)


def test_the_product_reads_the_settings(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", str(_DEPLOY / "compose" / "penstock.toml"))
    assert load_settings().kafka.bootstrap_servers == "kafka:9092"


def test_images_are_pinned_by_tag() -> None:
    for name, service in _services().items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), name


def test_our_image_is_the_charts() -> None:
    chart = render().at("StatefulSet/driver:spec.template.spec.containers.0.image")
    for name in _OURS:
        assert _services()[name]["image"] == chart


def test_every_service_that_stays_has_a_health_check() -> None:
    for name, service in _services().items():
        assert "healthcheck" in service or service["restart"] == "no", name


def test_a_service_waits_until_what_it_needs_is_healthy() -> None:
    for name, service in _services().items():
        for other, wait in service.get("depends_on", {}).items():
            ends = _services()[other].get("restart") == "no"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert wait["condition"] == expected, f"{name} waits for {other}"


@pytest.mark.parametrize("name", _OURS)
def test_our_containers_are_restricted_as_in_the_chart(name: str) -> None:
    service = _services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001:10001"
    assert {mount.partition(":")[0] for mount in service["tmpfs"]} == {"/tmp", "/data"}


def test_the_driver_is_started_as_in_the_chart() -> None:
    chart = render().at("StatefulSet/driver:spec.template.spec.containers.0.args.0").splitlines()
    compose = _services()["driver"]["command"][-1].splitlines()
    assert [line.replace('"$RAY_HEAD"', "ray-head:6379") for line in chart[-2:]] == compose


def test_nothing_is_reached_from_other_machines() -> None:
    ports = [port for service in _services().values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_every_mounted_file_is_in_the_repository() -> None:
    later = {_DEPLOY / ".." / "ops" / "rules", _DEPLOY / ".." / "ops" / "dashboards"}
    for service in _services().values():
        for mount in service.get("volumes", []):
            source = str(mount).partition(":")[0] if isinstance(mount, str) else mount["source"]
            if source.startswith("."):
                assert (_DEPLOY / source).exists() or _DEPLOY / source in later, source


def test_every_penstock_is_scraped() -> None:
    config = yaml.safe_load((_DEPLOY / "compose" / "prometheus.yaml").read_text("utf-8"))
    targets = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    assert targets == {"ray-worker:8601", "driver:8601", "query:8601"}


def _without_addresses(settings: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (section, name): value
        for section, values in settings.items()
        for name, value in (values.items() if isinstance(values, dict) else {"": values}.items())
        if (section, name) not in _ADDRESSES
    }
