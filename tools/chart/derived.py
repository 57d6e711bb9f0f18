"""Lists the files that the chart derives from others, with the content that each should have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tools.chart.readme import with_values
from tools.chart.schema import values_schema
from tools.chart.values import read_values

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "penstock"
# Helm reads no file outside the chart's folder.
_COPIED = (("ops/dashboards", "*.json", "files/dashboards"), ("ops/rules", "*.yaml", "files/rules"))


def derived_files() -> Mapping[Path, str]:
    """Returns each derived file with the content that its sources give."""
    values = read_values((CHART / "values.yaml").read_text("utf-8"))
    readme = CHART / "README.md"
    files = {
        CHART / "values.schema.json": json.dumps(values_schema(values), indent=2, ensure_ascii=False) + "\n",
        readme: with_values(readme.read_text("utf-8"), values),
    }
    for source, pattern, target in _COPIED:
        for file in sorted((ROOT / source).glob(pattern)):
            files[CHART / target / file.name] = file.read_text("utf-8")
    return files


def stale_copies() -> list[Path]:
    """Returns the copies whose source is gone."""
    derived = derived_files()
    return [
        file for _, pattern, target in _COPIED for file in sorted((CHART / target).glob(pattern)) if file not in derived
    ]
