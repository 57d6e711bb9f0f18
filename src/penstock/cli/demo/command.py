"""`penstock demo`: starts all services on this machine, streams sample media in, runs sample queries and questions."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import read_settings, stopped_by_signals
from penstock.cli.render import say
from penstock.cli.up import running_stack

if TYPE_CHECKING:
    from penstock.config import Settings


def demo(
    context: typer.Context,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the queries instead of staying up until Ctrl-C.")
    ] = False,
    images: Annotated[
        int, typer.Option(metavar="N", min=1, max=5_000, help="Number of sample images to stream in.")
    ] = 400,
    texts: Annotated[int, typer.Option(metavar="N", min=0, help="Maximum number of sample texts to stream in.")] = 200,
    query: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A query of your own, after the samples. Repeatable.")
    ] = None,
) -> None:
    """Start all services, stream sample images, texts, videos and audio clips in, search them and ask about them.

    The demo keeps its data apart from yours, in the folder `demo` of the data folder. While it runs, other commands
    reach it with `penstock --data-dir …/demo …`. Running it again on the same data changes no counts.

    Exits with 1 if a sample query or a sample question gets no right answer.
    """
    from penstock.cli.demo.run import DemoRun

    settings = _settings(context)
    with stopped_by_signals() as stop, running_stack(settings, stop) as (supervisor, endpoints):
        settings = supervisor.settings
        run = DemoRun(settings, endpoints, stop, images=images, texts=texts, queries=tuple(query or ()))
        succeeded = supervisor.watch_beside(run.run)
        if not once and not stop.is_set():
            _suggest_commands(settings)
            supervisor.watch()
    if not succeeded:
        raise typer.Exit(1)


def _settings(context: typer.Context) -> Settings:
    """Returns the user's settings with a data folder, a store and a Ray of the demo's own.

    A Kafka that is configured is used, with topics and a consumer group of the demo's own.
    """
    from penstock.config import demo_folder, load_settings
    from penstock.records import Modality

    settings = read_settings(context)
    folder = demo_folder(settings)
    kafka: dict[str, str] = {}
    if settings.kafka.bootstrap_servers is not None:
        kafka = {
            "group": "penstock-demo",
            "dead_letter_topic": "penstock-demo.dlq",
            "changes_topic": "penstock-demo.changes",
            "watches_topic": "penstock-demo.watches",
            "matches_topic": "penstock-demo.matches",
            **{f"{modality}_topic": f"penstock-demo.{modality}" for modality in Modality},
        }
    return load_settings(
        **{
            **context.obj.overrides,
            "data_dir": folder,
            "ray_address": None,
            "kafka": kafka,
            "store": {"uri": None},
            "assets": {"url": None},
            "ingest": {**context.obj.overrides.get("ingest", {}), "modalities": list(Modality)},
            "canary": {"interval_s": 0},  # canaries would be among the counts that the demo shows
        }
    )


def _suggest_commands(settings: Settings) -> None:
    # `make demo` runs it from an environment whose commands need not be on the PATH
    program = "penstock" if shutil.which("penstock") else os.path.relpath(sys.argv[0])
    penstock = f"{program} --data-dir {_short(settings.data_dir)}"
    say("")
    say("The services stay up until Ctrl-C. Try in another terminal:")
    say(f'  {penstock} search "something you eat at breakfast"')
    say(f'  {penstock} ask "What does the steam do to the bread?"')
    say(f"  {penstock} search --image {_short(settings.data_dir)}/images/bicycle-1.jpg")
    say(f"  {penstock} produce some/folder/of/yours")
    say(f"  {penstock} status --watch")
    say(f"`{program} up` starts an index for your own data; `{program} --profile small up` does so with larger models.")


def _short(path: Path) -> str:
    """Returns the path with ~ for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
