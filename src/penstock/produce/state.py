"""Keeps how far each source has been sent, in a file, so that the same command continues after a crash."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penstock.config import Settings
from penstock.errors import UsageError
from penstock.produce.items import Cursor, JsonObject, ProduceOptions, RefusalCount, RefusedSource, SourceMark
from penstock.records import Modality

_SCHEMA = 2
# What a crash sends again: at 5,000 events a second as many, each of which is indexed once. A write takes 1 ms.
_INTERVAL_S = 1.0


class ProduceState:
    """The places in the sources behind which nothing is open, and the refusals before them, in a file.

    A place is kept only once the broker has acknowledged everything before it. What was acknowledged after the last
    write to the file is sent again; it has the keys of the first time.

    Args:
        path: of the file; its folder is created.
        request: what was requested (`request_of`). A file of another request is refused.
        restart: begin again, whatever the file says.
        clock: monotonic seconds.

    Attributes:
        refused, failed: of earlier runs of the same request: refused, or not acknowledged.

    Raises:
        UsageError: the file is of another request, of a newer version, or none of these.
    """

    def __init__(
        self, path: Path, request: str, *, restart: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._request = request
        self._clock = clock
        self._written_s = clock()
        self._changed = False
        self._sources: dict[str, dict[str, Any]] = {}
        self.refused = self.failed = RefusalCount()
        if not restart and path.exists():
            self._read()
        self._all_refused, self._all_failed = self.refused, self.failed

    @property
    def continues(self) -> bool:
        """Whether something was sent before."""
        return bool(self._sources)

    def cursor_of(self, source: str) -> Cursor | None:
        """Returns the place behind which a source continues; None: at its start."""
        return self._sources.get(source, {}).get("cursor")

    def done_of(self, source: str) -> int:
        """Returns how much of a source is done, in its unit."""
        return int(self._sources.get(source, {}).get("done", 0))

    def settled(
        self, mark: SourceMark, refused: Sequence[RefusedSource] = (), failed: Sequence[RefusedSource] = ()
    ) -> None:
        """Takes a place that was reached, and writes the file from time to time.

        Args:
            mark: the place.
            refused, failed: of this run up to the place. Later ones come again, if the next run continues there.
        """
        self._all_refused, self._all_failed = self.refused.plus(refused), self.failed.plus(failed)
        self._sources[mark.source] = {"cursor": mark.cursor, "done": mark.done}
        self._changed = True
        if self._clock() - self._written_s >= _INTERVAL_S:
            self.write()

    def write(self) -> None:
        """Replaces the file, if anything changed: others see the old one or the new one, also after a power loss."""
        self._written_s = self._clock()
        if not self._changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        document = {
            "schema": _SCHEMA,
            "request": self._request,
            "sources": self._sources,
            "refused": _written(self._all_refused),
            "failed": _written(self._all_failed),
        }
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._changed = False

    def remove(self) -> None:
        """Removes the file: everything is done, and the same command begins again."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_bytes())
            schema, request = document["schema"], document["request"]
            if schema == _SCHEMA:
                self._sources = dict(document["sources"])
                self.refused, self.failed = _count(document["refused"]), _count(document["failed"])
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise UsageError(f"{self.path} is no state of `penstock produce`; remove it, or use --restart") from exc
        if schema != _SCHEMA:
            raise UsageError(f"{self.path} is of another version of Penstock (schema {schema}); use --restart")
        if request != self._request:
            raise UsageError(
                f"{self.path} is the state of other sources, options or servers; name another file by --state, or use "
                "--restart"
            )


def _written(refusals: RefusalCount) -> JsonObject:
    return {"count": refusals.count, "first": [[source.label, source.reason] for source in refusals.first]}


def _count(written: JsonObject) -> RefusalCount:
    return RefusalCount(
        int(written["count"]), tuple(RefusedSource(label, reason) for label, reason in written["first"])
    )


def target_of(settings: Settings) -> JsonObject:
    """Returns where items go by the settings, and which S3 they come from."""
    topics = {f"{modality.value}_topic" for modality in Modality}
    return {
        "servers": sorted((settings.kafka.bootstrap_servers or "").split(",")),
        "topics": settings.kafka.model_dump(mode="json", include={"tenants", *topics}),
        "tenant": settings.tenant,
        "s3_endpoint": settings.fetch.s3_endpoint,
    }


def request_of(sources: Sequence[str], options: ProduceOptions, target: JsonObject) -> str:
    """Returns the digest of what is requested and of its target (`target_of`), by which a file of states is known."""
    written = json.dumps([list(sources), asdict(options), target], sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()


def default_path(folder: Path, request: str) -> Path:
    """Returns the file of a request in the data folder."""
    return folder / "produce" / f"{request[:16]}.json"
