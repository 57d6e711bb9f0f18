"""`penstock config`: shows every setting with its value, its source and its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_table

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
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md: names, defaults and meanings, without values.")
    ] = False,
) -> None:
    """Show every setting with its value, the source of the value, and its meaning. Secrets are masked."""
    from dataclasses import asdict

    from penstock.config import explain

    explained = explain(read_settings(context), context.obj.overrides)
    if markdown:
        typer.echo(_HEAD + "\n".join(_markdown(explained)))
    elif as_json:
        print_json({setting.name: asdict(setting) for setting in explained})
    else:
        print_table([_row(setting) for setting in explained])


def _row(setting: ExplainedSetting) -> Mapping[str, str]:
    return {
        "setting": setting.name,
        "value": _text(setting.value),
        "source": setting.source,
        "meaning": setting.description,
    }


def _markdown(explained: Iterable[ExplainedSetting]) -> Iterable[str]:
    for setting in explained:
        default = f"`{_default(setting)}`" if setting.default not in (None, {}) else ""
        meaning = setting.description.replace("|", "\\|")
        yield f"| `{setting.name}` | `{setting.variable}` | {default} | {meaning} |"


def _default(setting: ExplainedSetting) -> str:
    """Returns the default as text, without the paths of this machine."""
    return "the user's data folder" if setting.name == "data_dir" else _text(setting.default)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
