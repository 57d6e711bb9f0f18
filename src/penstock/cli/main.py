"""`penstock`: the entry point. One file a command; this one has the options of all of them and says what went wrong."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import audit, config, deadletters, ingest, models, produce, search, serve, status, up
from penstock.cli.bench import add_bench
from penstock.cli.common import Globals, configure_logging, quiet_environment, say
from penstock.cli.demo import command as demo
from penstock.errors import ConfigError, PenstockError

app = typer.Typer(
    name="penstock",
    help="Streams text and images from Kafka into a searchable index, with nothing lost and nothing doubled.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich makes --help three times slower
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("produce")(produce.produce)
app.command("search")(search.search)
app.command("status")(status.status)
app.add_typer(deadletters.app, name="deadletters")
app.command("audit")(audit.audit)
app.command("ingest")(ingest.ingest)
app.command("serve")(serve.serve)
app.command("models")(models.models)
add_bench(app)
app.command("config")(config.config)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("penstock"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings; default: ./penstock.toml.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Folder of the embedded services.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Models: reference, small, gpu or a TOML file (`penstock models`).")
    ] = None,
    verbose: Annotated[int, typer.Option("-v", count=True, help="More log; twice: even more.")] = 0,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    if config_file is not None:
        if not config_file.is_file():
            raise ConfigError(f"there is no settings file {config_file}")
        os.environ["PENSTOCK_CONFIG"] = str(config_file.resolve())
    given = {"data_dir": data_dir and data_dir.expanduser().absolute(), "profile": profile}
    overrides = {name: value for name, value in given.items() if value is not None}
    configure_logging(verbose)
    quiet_environment()
    context.obj = Globals(overrides, verbose)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line.

    Returns:
        the exit code: 0 done; 1 not done; 2 asked for wrongly; 3 something needed does not answer; 130 interrupted.
    """
    try:
        app(list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except PenstockError as error:
        _explain(error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `penstock … | head`: nobody reads on, which is no failure of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _unexpected(error, verbose=_verbose(arguments))
        return 1
    return 0


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def _explain(error: PenstockError, *, as_json: bool) -> None:
    if not as_json:
        say(f"penstock: {error}")  # `cli.hosting` looks for this beginning
        return
    described = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    say(json.dumps({"error": described}, ensure_ascii=False))


def _unexpected(error: Exception, *, verbose: bool) -> None:
    if verbose:
        traceback.print_exception(error)
    hint = (
        ""
        if verbose
        else " `penstock -v …` shows where; the services' logs are in the `logs` folder of the data folder"
    )
    say(f"penstock: unexpected {type(error).__name__}: {error}.{hint}")


def _verbose(arguments: Sequence[str]) -> bool:
    return any(argument.startswith("-v") for argument in arguments)


if __name__ == "__main__":
    run()
