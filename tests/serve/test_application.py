"""The import path that a RayService names gives the application that `penstock serve` deploys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray._common.utils import import_attr

from penstock.errors import ConfigError
from penstock.serve.deployment import DEPLOYMENT
from tests.helm.rendering import render


def test_the_import_path_of_the_chart_gives_the_deployment_that_it_configures(no_settings: Path) -> None:
    (application,) = yaml.safe_load(render().at("RayService/query:spec.serveConfigV2"))["applications"]
    built = import_attr(application["import_path"])(application.get("args", {}))
    assert built._bound_deployment.name == DEPLOYMENT
    assert [deployment["name"] for deployment in application["deployments"]] == [DEPLOYMENT]


def test_settings_come_from_the_environment_of_the_node(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_QUERY__REPLICAS", "3")
    assert import_attr("penstock.serve.application:app")({})._bound_deployment.num_replicas == 3


def test_arguments_are_refused_by_name(no_settings: Path) -> None:
    with pytest.raises(ConfigError, match="profile"):
        import_attr("penstock.serve.application:app")({"profile": "reference"})
