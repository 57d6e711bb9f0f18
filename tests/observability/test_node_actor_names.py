"""The name of a node's endpoint actor says whether it is the one that these settings ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import LogSettings, MetricsSettings, Settings
from penstock.observability import node_endpoints
from penstock.observability.node_endpoints import actor_name


def test_actors_of_other_settings_nodes_or_versions_have_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    name = actor_name(settings, "0a1b")
    assert name == actor_name(Settings(data_dir=tmp_path), "0a1b")
    others = [
        actor_name(settings, "0a1c"),
        actor_name(Settings(data_dir=tmp_path / "other"), "0a1b"),
        actor_name(Settings(data_dir=tmp_path, metrics=MetricsSettings(port=9999)), "0a1b"),
        actor_name(Settings(data_dir=tmp_path, metrics=MetricsSettings(host="0.0.0.0")), "0a1b"),
        actor_name(Settings(data_dir=tmp_path, log=LogSettings(format="json")), "0a1b"),
        actor_name(Settings(data_dir=tmp_path, log=LogSettings(level="debug")), "0a1b"),
    ]
    monkeypatch.setattr(node_endpoints, "__version__", "0.0.9")
    others.append(actor_name(settings, "0a1b"))
    assert len({name, *others}) == 8
