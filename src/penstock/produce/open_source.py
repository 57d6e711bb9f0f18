"""Opens the source that an argument names by a URL or by the ending of a file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from penstock.config import Settings
from penstock.produce.base import MediaSource
from penstock.produce.items import ProduceOptions
from penstock.produce.lines import JsonLinesSource
from penstock.produce.objects import ObjectSource
from penstock.produce.shards import ShardSource
from penstock.produce.tables import CsvSource, ParquetSource
from penstock.produce.topics import SCHEME, topic_source

_BY_ENDING: dict[str, type[ParquetSource | CsvSource | ShardSource | JsonLinesSource]] = {
    ".parquet": ParquetSource,
    ".csv": CsvSource,
    ".csv.gz": CsvSource,
    ".tsv": CsvSource,
    ".tsv.gz": CsvSource,
    ".tar": ShardSource,
    ".tar.gz": ShardSource,
    ".tgz": ShardSource,
    ".jsonl": JsonLinesSource,
    ".ndjson": JsonLinesSource,
}
_OF_THIS_MACHINE = (JsonLinesSource,)  # which `cli.sources` reads, with paths relative to the file


def is_url(argument: str) -> bool:
    """Returns whether an argument is a URL, or the name of a topic, and no path."""
    return "://" in argument or argument.startswith(SCHEME)


def open_source(argument: str, settings: Settings, options: ProduceOptions) -> MediaSource | None:
    """Returns the source of an argument; None: it is a file, a folder or JSONL of this machine.

    Raises:
        UsageError: it names no source.
    """
    if argument.startswith(SCHEME):
        return topic_source(argument, settings, options)
    kind = next((kind for ending, kind in _BY_ENDING.items() if argument.lower().endswith(ending)), None)
    if is_url(argument):
        return ObjectSource(argument, settings, options) if kind is None else kind(argument, settings, options)
    if kind is None or kind in _OF_THIS_MACHINE or Path(argument).is_dir():
        return None
    absolute = PurePosixPath(Path(argument).absolute()).as_posix()
    return kind(f"file://{absolute}", settings, options)
