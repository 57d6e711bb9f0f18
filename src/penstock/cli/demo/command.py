"""`penstock demo`: everything on this machine, sample media streamed in, sample questions answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import read_settings, say, stopped_by_signals
from penstock.cli.up import everything

if TYPE_CHECKING:
    from penstock.config import Settings


def demo(
    context: typer.Context,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Leave after the questions; otherwise stay until Ctrl-C.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=1, max=5_000, help="Sample pictures to stream in.")] = 1000,
    texts: Annotated[int, typer.Option(min=0, help="Sample texts to stream in, as many as there are.")] = 200,
    question: Annotated[
        list[str] | None, typer.Option(help="A question of your own, besides; may be repeated.")
    ] = None,
) -> None:
    """Stream sample pictures, texts, films and sound clips through everything, and search them.

    The demo's data is apart from yours, in the folder `demo` of the data folder: `penstock --data-dir …/demo …` reaches
    it while it runs. Again on the same data it changes no counts. Fails (1) if a sample question finds nothing right.
    """
    from penstock.cli.demo.run import DemoRun

    settings = _settings(context)
    with stopped_by_signals() as stop, everything(settings, stop) as (supervisor, endpoints):
        run = DemoRun(settings, endpoints, stop, pictures=pictures, texts=texts, questions=tuple(question or ()))
        succeeded = supervisor.watch_beside(run.run)
        if not once and not stop.is_set():
            _say_what_next(settings)
            supervisor.watch()
    if not succeeded:
        raise typer.Exit(1)


def _settings(context: typer.Context) -> Settings:
    """The user's settings, but for where things are kept: a folder, a store and a Ray of the demo's own.

    A Kafka that is configured is used, with topics and a group of the demo's own.
    """
    from penstock.config import demo_folder, load_settings
    from penstock.records import Modality

    settings = read_settings(context)
    folder = demo_folder(settings)
    kafka: dict[str, Any] = {}
    if settings.kafka.bootstrap_servers is not None:
        kafka = {
            "group": "penstock-demo",
            "dead_letter_topic": "penstock-demo.dlq",
            **{f"{modality}_topic": f"penstock-demo.{modality}" for modality in ("text", "image", "audio", "video")},
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
            "canary": {"interval_s": 0},  # its entries would stand in the counts that the demo shows
        }
    )


def _say_what_next(settings: Settings) -> None:
    penstock = f"penstock --data-dir {_short(settings.data_dir)}"
    say("")
    say("It stays until Ctrl-C. Try in another terminal:")
    say(f'  {penstock} search "something you eat at breakfast"')
    say(f"  {penstock} search --image {_short(settings.data_dir)}/pictures/banana-1.jpg")
    say(f"  {penstock} produce some/folder/of/yours")
    say(f"  {penstock} status --watch")
    say("Then `penstock up` for your own data, and `penstock --profile small up` for real models.")


def _short(path: Path) -> str:
    """With ~ for the home folder, as a person would type it."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)
