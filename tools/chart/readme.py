"""Makes the chart's README: what a person writes, and a table of the values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.chart.fragments import FRAGMENTS
from tools.chart.values import ChartValue, leaves

BEGIN = "<!-- values: made by python -m tools.chart -->"
END = "<!-- end of values -->"


def with_values(readme: str, values: Sequence[ChartValue]) -> str:
    """Returns the README with the table of values between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README lacks the marks {BEGIN} and {END}")
    return "\n".join([f"{before}{BEGIN}", "", *_table(values), "", f"{END}{after}"])


def _table(values: Sequence[ChartValue]) -> Iterator[str]:
    yield "| value | default | meaning |"
    yield "|---|---|---|"
    for value in leaves(values):
        yield f"| `{value.name}` | {_code(value.default)} | {_cell(value.description)} |"
        if value.schema == "groups":
            for name, schema in FRAGMENTS["groups"]["additionalProperties"]["properties"].items():
                yield f"| `{value.name}.NAME.{name}` |  | {_cell(_description(schema))} |"


def _description(schema: Mapping[str, Any]) -> str:
    choices = f" ({', '.join(schema['enum'])})" if "enum" in schema else ""
    description: str = schema["description"]
    return description + choices


def _code(default: Any) -> str:
    text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
