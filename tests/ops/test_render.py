"""Checks that rendered files are in step with their code, and that Grafana's types know every field of a dashboard."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.__main__ import ROOT, out_of_step, rendered
from ops.alerts import every_alert
from ops.slos import read_objectives

OBJECTIVES = read_objectives()
FILES = rendered(OBJECTIVES)
DASHBOARDS = sorted((ROOT / "ops" / "dashboards").glob("*.json"))


def test_files_are_in_step() -> None:
    assert out_of_step(FILES, ROOT) == [], "run `python -m ops render`"


def test_a_file_that_is_missing_changed_or_left_over_is_found(tmp_path: Path) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert out_of_step(FILES, tmp_path) == []
    (tmp_path / "docs/alerts.md").write_text("another page")
    (tmp_path / "ops/rules/alerts.yaml").unlink()
    (tmp_path / "ops/dashboards/old.json").write_text("{}")
    assert out_of_step(FILES, tmp_path) == ["docs/alerts.md", "ops/dashboards/old.json", "ops/rules/alerts.yaml"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_survives_the_types_of_grafana(path: Path) -> None:
    read = json.loads(path.read_text())
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(read)))
    for variable in again["templating"]["list"]:  # what the SDK adds, and Grafana's types do not know
        assert all(variable.pop(name) is not None for name in ("auto", "auto_count", "auto_min"))
    assert again == read


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_names_no_data_source_of_its_own(path: Path) -> None:
    read = json.loads(path.read_text())
    panels = [panel for panel in read["panels"] if panel["type"] != "row"]
    assert panels
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {"${datasource}"}
    names = [variable["name"] for variable in read["templating"]["list"]]
    assert names == ["datasource", "cluster", "namespace", "job", "node"]
    assert len({panel["id"] for panel in read["panels"]}) == len(read["panels"])


def test_runbooks_are_where_they_are_published() -> None:
    rules = yaml.safe_load(FILES["ops/rules/alerts.yaml"])["groups"][0]["rules"]
    assert [rule["annotations"]["runbook_url"] for rule in rules] == [
        f"{OBJECTIVES.runbooks}/{alert.name}.md" for alert in every_alert(OBJECTIVES)
    ]
    assert all((ROOT / rule["annotations"]["runbook_url"]).is_file() for rule in rules), "by default in the repository"


def test_panels_link_to_runbooks_where_a_browser_can_follow() -> None:
    published = rendered(replace(OBJECTIVES, runbooks="https://example.com/runbooks"))
    for path in (path for path in FILES if path.startswith("ops/dashboards")):
        links = [link["url"] for panel in json.loads(published[path])["panels"] for link in panel.get("links", ())]
        assert links
        assert all(url.startswith("https://example.com/runbooks/Penstock") for url in links)
        assert not any(panel.get("links") for panel in json.loads(FILES[path])["panels"])


def test_an_empty_panel_says_why() -> None:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["title"] in {"Lost offsets", "Image texts", "Spans of traces", "Retries"}:
                assert re.fullmatch("No data: .+", panel["fieldConfig"]["defaults"]["noValue"])
