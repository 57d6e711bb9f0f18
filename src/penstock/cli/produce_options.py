"""The options of `penstock produce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE…",
        help="Files, folders, URLs (s3://bucket/photos), .jsonl, .csv, .parquet and .tar files, kafka:TOPIC; - for "
        "JSONL on stdin.",
    ),
]
Tenant = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tenant that owns the assets. Default: the configured tenant.")
]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="Key of a single file, instead of its path.")]
Topic = Annotated[
    str | None, typer.Option(metavar="TOPIC", help="Topic for all events, instead of detecting it from the bytes.")
]
Attributes = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="JSON object that is added to each event's attributes, for filters."),
]
Labels = Annotated[
    list[str] | None, typer.Option(metavar="LABEL", help="Label of all assets, repeatable (auth.default_acl).")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=COLUMN",
        help="Column of a table that is a field: text=caption; repeatable.",
    ),
]
AttributeColumns = Annotated[
    list[str] | None,
    typer.Option("--attribute-column", metavar="COLUMN", help="Column of a table that is an attribute; repeats."),
]
VectorEncoder = Annotated[
    str | None,
    typer.Option(metavar="FINGERPRINT", help="Encoder of the vectors in tables or shards."),
]
Rate = Annotated[float | None, typer.Option(metavar="N", min=0.001, help="Maximum number of events per second.")]
MaxLag = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Wait while the ingest plane has this many events before it."),
]
ClaimCheckFlag = Annotated[
    bool,
    typer.Option("--claim-check", help="Send the addresses of the files instead of their bytes (see fetch.allow)."),
]
StateFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File that says how far it came. Default: one in the data folder."),
]
Restart = Annotated[bool, typer.Option("--restart", help="Begin again, whatever an interrupted run has sent.")]
Delete = Annotated[
    str | None, typer.Option(metavar="KEY", help="Delete the asset with this key from --topic, by a tombstone.")
]
