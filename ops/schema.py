"""Dashboards as TypeScript literals, which the compiler compares with Grafana's own types."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ops.node import BUILD, run_in_page

_PANELS: Final = {"timeseries": "TimeSeries", "stat": "Stat", "heatmap": "Heatmap"}
_STYLED: Final = {"timeseries", "heatmap"}  # the kinds with a type for the style of a field
_PLAIN: Final = """\
import type { Dashboard, Panel, RowPanel } from '@grafana/schema';

/** The same type, with text where it has an enumeration. */
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def schema_errors(dashboards: Mapping[str, dict[str, Any]]) -> list[str]:
    """Returns what Grafana's types have against dashboards, by name.

    Errors:
        MissingProgramError: there is no npm.
    """
    names = []
    for name, dashboard in dashboards.items():
        (BUILD / f"{name}.ts").parent.mkdir(parents=True, exist_ok=True)
        (BUILD / f"{name}.ts").write_text(typescript(dashboard), "utf-8")
        names.append(f"{name}.ts")
    compiler = ("--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022")
    try:
        run_in_page("tsc", "--noEmit", "--strict", "--skipLibCheck", "--pretty", "false", *compiler, *names)
    except subprocess.CalledProcessError as error:
        return [line for line in error.stdout.splitlines() if line.strip()]
    return []


def typescript(dashboard: dict[str, Any]) -> str:
    """Returns a module that is right if a dashboard is: its panels apart, each by the type of its kind."""
    return _PLAIN + "\n".join((*_imports(), *_literals(dashboard))) + "\n"


def _imports() -> Iterator[str]:
    for kind, name in _PANELS.items():
        module = f"./node_modules/@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        yield f"import type * as {name} from '{module}';"


def _literals(dashboard: dict[str, Any]) -> Iterator[str]:
    around = {name: value for name, value in dashboard.items() if name != "panels"}
    yield _literal("around", "Plain<Omit<Dashboard, 'panels'>>", around)
    for number, panel in enumerate(dashboard["panels"]):
        shape = "RowPanel" if panel["type"] == "row" else "Panel"
        yield _literal(f"panel{number}", f"Plain<Omit<{shape}, 'fieldConfig'>> & {{ fieldConfig?: object }}", panel)
        if panel["type"] != "row":
            name = _PANELS[panel["type"]]
            yield _literal(f"options{number}", f"Plain<Partial<{name}.Options>>", panel.get("options", {}))
            style = panel["fieldConfig"]["defaults"].get("custom", {})
            if panel["type"] in _STYLED:
                yield _literal(f"style{number}", f"Plain<{name}.FieldConfig>", style)


def _literal(name: str, shape: str, value: object) -> str:
    return f"export const {name}: {shape} = {json.dumps(value, indent=1)};"
