"""The entry point `penstock`: registers the commands, reads the global options, and reports errors with exit codes."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import (
    adapter,
    ask,
    audit,
    audit_log,
    backup,
    config,
    deadletters,
    evaluate,
    export,
    ingest,
    keys,
    mcp,
    models,
    preflight,
    produce,
    purge,
    reindex,
    restore,
    retention,
    search,
    serve,
    status,
    sweep,
    train,
    tune,
    up,
    watch,
)
from penstock.cli.bench import add_bench
from penstock.cli.common import Globals, configure_logging, quiet_environment
from penstock.cli.demo import command as demo
from penstock.cli.render import say
from penstock.errors import ConfigError, PenstockError
from penstock.observability.logs import is_json

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="penstock",
    help="Index Kafka topics of text, images, audio, video and documents, and search them seconds later.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich makes --help three times slower
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("produce")(produce.produce)
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.command("status")(status.status)
app.add_typer(watch.app, name="watch")
app.add_typer(deadletters.app, name="deadletters")
app.command("audit")(audit.audit)
app.add_typer(audit_log.app, name="audit-log")
app.command("sweep")(sweep.sweep)
app.command("purge")(purge.purge)
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
app.command("export")(export.export)
app.command("retention")(retention.retention)
app.add_typer(reindex.app, name="reindex")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(train.app, name="train")
app.command("tune")(tune.tune)
app.add_typer(adapter.app, name="adapter")
app.command("ingest")(ingest.ingest)
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
add_bench(app)
app.command("mcp")(mcp.mcp)
app.command("preflight")(preflight.preflight)
app.command("config")(config.config)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(version("penstock"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file with settings. Default: ./penstock.toml.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="FOLDER", help="Folder for the local services' data, state and logs (data_dir)."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Set of models: reference, shelf, small or gpu, or the path of a TOML file (see `penstock models`).",
        ),
    ] = None,
    verbose: Annotated[
        int, typer.Option("-v", count=True, show_default=False, help="Log information; -vv logs debug messages too.")
    ] = 0,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Applies the global options before the command runs."""
    if config_file is not None:
        if not config_file.is_file():
            raise ConfigError(f"the settings file {config_file} does not exist")
        os.environ["PENSTOCK_CONFIG"] = str(config_file.resolve())
    given = {"data_dir": data_dir and data_dir.expanduser().absolute(), "profile": profile}
    overrides = {name: value for name, value in given.items() if value is not None}
    configure_logging(verbose)
    quiet_environment()
    context.obj = Globals(overrides, verbose)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line.

    Returns:
        the exit code: 0 success; 1 failure; 2 invalid usage or settings; 3 a service is unavailable, or
            the sources do not answer a question;
            4 another driver ingests for this consumer group; 130 interrupted.
    """
    try:
        app(list(arguments))
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except PenstockError as exc:
        _report_error(exc, as_json="--json" in arguments)
        return exc.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `penstock … | head`: the reader closed the pipe, which is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        _report_unexpected(exc, verbose=_is_verbose(arguments))
        return 1
    return 0


def run() -> None:
    """Runs the console script `penstock` and exits the process."""
    sys.exit(main(sys.argv[1:]))


def _report_error(error: PenstockError, *, as_json: bool) -> None:
    if is_json():
        logger.error("%s", error)
    if not as_json:
        say(f"penstock: {error}")  # `embedded.services` looks for this prefix in the logs of the planes
        return
    document = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    say(json.dumps({"error": document}, ensure_ascii=False))


def _report_unexpected(error: Exception, *, verbose: bool) -> None:
    if is_json():
        logger.error("unexpected %s", type(error).__name__, exc_info=error)
    if verbose:
        traceback.print_exception(error)
    hint = (
        ""
        if verbose
        else " `penstock -v …` shows the traceback; the services' logs are in the folder `logs` of the data folder"
    )
    say(f"penstock: unexpected {type(error).__name__}: {error}.{hint}")


def _is_verbose(arguments: Sequence[str]) -> bool:
    return any(argument.startswith("-v") for argument in arguments)


if __name__ == "__main__":
    run()
