"""`penstock config`: every setting, its value, and where that came from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import JsonFlag, print_json, print_table, read_settings

if TYPE_CHECKING:
    from penstock.config import ExplainedSetting

_HEAD = """# Settings

All settings, generated from the code by `penstock config --markdown`.

A setting comes from the first source that has it: the command line; its environment variable; the file that
`--config` or `PENSTOCK_CONFIG` names, else `penstock.toml` in the working directory; its default. `penstock config`
shows each with its source. In the file, the part before the dot is a section:

```toml
profile = "small"

[kafka]
bootstrap_servers = "kafka-1:9092,kafka-2:9092"

[ingest]
lanes = 4
```

| setting | environment variable | default | meaning |
|---|---|---|---|
"""


def config(
    context: typer.Context,
    *,
    as_json: JsonFlag = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page of the documentation; no values.")] = False,
) -> None:
    """Show every setting: value, where it came from, environment variable, meaning. Secrets are masked."""
    from dataclasses import asdict

    from penstock.config import explain

    explained = explain(read_settings(context), context.obj.overrides)
    if markdown:
        typer.echo(_HEAD + "\n".join(_markdown(explained)))
    elif as_json:
        print_json({setting.name: asdict(setting) for setting in explained})
    else:
        shown = (
            {"setting": one.name, "value": _text(one.value), "from": one.source, "meaning": one.description}
            for one in explained
        )
        print_table(list(shown))


def _markdown(explained: Iterable[ExplainedSetting]) -> Iterable[str]:
    for setting in explained:
        default = f"`{_default(setting)}`" if setting.default is not None else ""
        meaning = setting.description.replace("|", "\\|")
        yield f"| `{setting.name}` | `{setting.variable}` | {default} | {meaning} |"


def _default(setting: ExplainedSetting) -> str:
    """The default as anyone's machine has it."""
    return "the user's data folder" if setting.name == "data_dir" else _text(setting.default)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
