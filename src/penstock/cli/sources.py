"""Reads files, folders and JSONL for `penstock produce`, and turns each item into a message or a refusal.

Only one file is in memory at a time. The same folder gives the same keys each time, so unchanged files change nothing.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from penstock.broker.base import Message
from penstock.broker.wire import encode_event
from penstock.config import Settings
from penstock.errors import BadInputError, UsageError
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.records import ClaimCheck, Inline, Modality

SOURCE = "penstock/produce"
STDIN = "-"
_JSONL = frozenset({".jsonl", ".ndjson"})
_JSONL_FIELDS = frozenset(
    {"key", "topic", "modality", "text", "path", "uri", "title", "attributes", "tenant", "time", "id"}
)
_TIMES_MS = range(-62_135_596_800_000, 253_402_300_800_000)  # those that RFC 3339 can write
# Headers, key and Kafka's own framing count towards a message's limit too; titles and attributes may take 64 KiB.
_MESSAGE_OVERHEAD_BYTES = 80 * 1024


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to send, with the label that reports use for its source: a path, or a file and line."""

    label: str
    message: Message

    @property
    def size_bytes(self) -> int:
        """The size of key and value together."""
        return len(self.message.key or b"") + len(self.message.value or b"")


@dataclass(frozen=True, slots=True)
class RefusedSource:
    """A source that was not sent or not acknowledged, with the reason."""

    label: str
    reason: str


ProduceItem: TypeAlias = OutgoingMessage | RefusedSource
JsonObject: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProduceOptions:
    """Options of the command line that apply to all items.

    Attributes:
        tenant: the owner of the assets; None: the configured tenant.
        key: the key of a single file, instead of its path.
        topic: the topic of all events; None: the topic of the modality that is detected in the bytes.
        attributes: added to the attributes of each item; they win over the item's own.
        claim_check: send `file:` addresses instead of bytes.
    """

    tenant: str | None = None
    key: str | None = None
    topic: str | None = None
    attributes: JsonObject | None = None
    claim_check: bool = False


def read_all(
    paths: Iterable[str], settings: Settings, options: ProduceOptions, stdin: TextIO | None = None
) -> Iterator[ProduceItem]:
    """Yields the items that the paths name, in order; folders are sorted, hidden files and folders left out.

    A file's key is its path below the given folder, that folder's name first (`photos/2026/a.jpg`). A file that is
    given directly has the name of its folder and its own.

    Raises:
        UsageError: a path does not exist, or two folders have one name (their keys would mix). Nothing was read then.
    """
    checked = list(paths)
    _check_paths([Path(path) for path in checked if path != STDIN])
    reader = _Reader(settings, options)
    for path in checked:
        if path == STDIN:
            yield from reader.jsonl(stdin or sys.stdin, "stdin", Path.cwd())
        elif is_jsonl(path):
            yield from reader.jsonl_file(Path(path))
        elif Path(path).is_dir():
            yield from reader.folder(Path(path))
        else:
            file = Path(path).absolute()
            yield reader.file(file, options.key or f"{file.parent.name}/{file.name}".lstrip("/"))


def is_jsonl(path: str) -> bool:
    """Returns whether a path of the command line is read line by line: `-`, or a file named .jsonl or .ndjson."""
    return path == STDIN or (Path(path).suffix.lower() in _JSONL and not Path(path).is_dir())


def tombstone(key: str, topic: str, tenant: str | None) -> OutgoingMessage:
    """Returns the message that deletes an asset of a topic."""
    message = encode_event(topic=topic, key=key, payload=None, source=SOURCE, tenant=tenant)
    return OutgoingMessage(f"deletion of {key}", message)


def _check_paths(paths: list[Path]) -> None:
    roots: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}; nothing was sent")
        if path.is_dir():
            name = path.resolve().name
            other = roots.setdefault(name, path.resolve())
            if other != path.resolve():
                raise UsageError(
                    f"{other} and {path.resolve()} are both named {name!r}, so their keys would mix; give the folder "
                    "above them instead"
                )


def _read(file: Path, max_bytes: int) -> bytes:
    with file.open("rb") as source:
        return source.read(max_bytes)


def _sniff_in_place(file: Path) -> Sniffed:
    """Detects the type of a file of any size as ingest will, which has all of it, also a list of tracks at its end."""
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return sniff(data, declared=None)


class _Reader:
    """Turns files and lines into messages or refusals."""

    def __init__(self, settings: Settings, options: ProduceOptions) -> None:
        self._settings = settings
        self._options = options
        self._inline_limit = min(settings.kafka.max_message_bytes - _MESSAGE_OVERHEAD_BYTES, settings.fetch.max_bytes)
        self._roots = tuple(root.resolve() for root in settings.fetch.allowed_roots)

    # --- folders and files -------------------------------------------------------------------------------------------

    def folder(self, root: Path) -> Iterator[ProduceItem]:
        unreadable: list[RefusedSource] = []

        def on_error(error: OSError) -> None:
            unreadable.append(RefusedSource(str(error.filename), f"cannot be read: {error.strerror}"))

        base = root.absolute()
        prefix = root.resolve().name
        for folder, folders, names in os.walk(base, onerror=on_error):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    file = Path(folder) / name
                    yield self.file(file, f"{prefix}/{file.relative_to(base).as_posix()}".lstrip("/"))
            yield from unreadable
            unreadable.clear()
        yield from unreadable

    def file(self, file: Path, key: str) -> ProduceItem:
        label = str(file)
        try:
            return OutgoingMessage(label, self._file_message(file, key))
        except OSError as exc:
            return RefusedSource(label, f"cannot be read: {exc.strerror or exc}")
        except (BadInputError, UsageError) as exc:
            return RefusedSource(label, str(exc))

    def _file_message(
        self, file: Path, key: str, *, described: JsonObject | None = None, topic: str | None = None
    ) -> Message:
        """Returns the message of a file. The fields in `described` (title, attributes…) win over the file's own."""
        if not file.is_file():  # a pipe would block, a device never ends
            raise UsageError("is not a regular file")
        stat = file.stat()
        by_address = self._options.claim_check or stat.st_size > self._inline_limit
        if by_address:
            self._check_claim(file, stat.st_size)
        if stat.st_size == 0:
            raise UsageError("is empty")
        data = b"" if by_address else _read(file, self._inline_limit + 1)
        sniffed = _sniff_in_place(file) if by_address else sniff(data, declared=None)
        fields = {"title": file.name, "time_ms": round(stat.st_mtime * 1000), **(described or {})}
        fields["attributes"] = {"path": str(file), **self._attributes(described)}
        return self._message(
            topic=topic or self._topic(sniffed),
            key=key,
            payload=ClaimCheck(file.resolve().as_uri()) if by_address else Inline(data),
            content_type=sniffed.mime,
            **fields,
        )

    def _check_claim(self, file: Path, size: int) -> None:
        if size > self._settings.fetch.max_bytes:
            raise UsageError(
                f"has {size:,} bytes, more than fetch.max_bytes allows ({self._settings.fetch.max_bytes:,})"
            )
        if not any(file.resolve().is_relative_to(root) for root in self._roots):
            cause = "" if self._options.claim_check else f"has {size:,} bytes, too many for a message, and "
            raise UsageError(
                f"{cause}lies outside the folders from which files may be fetched (fetch.allowed_roots); add "
                f"{file.resolve().parent} to that setting, also for the ingest plane"
            )

    def _topic(self, sniffed: Sniffed) -> str:
        if self._options.topic is not None:
            return self._options.topic
        if sniffed.modality is None:
            raise UsageError(f"is {sniffed.mime}, which no decoder supports")
        return self._topic_of(sniffed.modality)

    def _topic_of(self, modality: Modality) -> str:
        if modality not in self._settings.ingest.modalities:
            known = ", ".join(self._settings.ingest.modalities)
            raise UsageError(f"is {modality}, which is not ingested; add it to ingest.modalities (now: {known})")
        return self._settings.kafka.topic_of(modality)

    # --- JSONL -------------------------------------------------------------------------------------------------------

    def jsonl_file(self, file: Path) -> Iterator[ProduceItem]:
        try:
            with file.open("rb") as lines:
                yield from self.jsonl(lines, str(file), file.absolute().parent)
        except OSError as exc:
            yield RefusedSource(str(file), f"cannot be read: {exc.strerror}")

    def jsonl(self, lines: Iterable[str | bytes], name: str, folder: Path) -> Iterator[ProduceItem]:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield self._line(line, f"{name}:{number}", folder)

    def _line(self, line: str | bytes, label: str, folder: Path) -> ProduceItem:
        """Returns the message of a line, or why it is refused: whatever is wrong with it, the others are sent."""
        try:
            return OutgoingMessage(label, self._line_message(_fields(line), folder))
        except OSError as exc:
            return RefusedSource(label, f"names a file that cannot be read: {exc.strerror or exc}")
        except (BadInputError, UsageError) as exc:
            return RefusedSource(label, str(exc))
        except (ValueError, OverflowError, RecursionError) as exc:
            return RefusedSource(label, f"has a value that cannot be sent: {exc}")

    def _line_message(self, fields: JsonObject, folder: Path) -> Message:
        _check_line(fields)
        described: dict[str, Any] = {
            name: value
            for name, value in {
                "title": fields.get("title"),
                "tenant": fields.get("tenant"),
                "time_ms": _time_ms(fields.get("time")),
                "event_id": fields.get("id"),
                "attributes": fields.get("attributes"),
            }.items()
            if value is not None
        }
        topic = self._topic_of_line(fields)
        if "path" in fields:
            key = fields.get("key") or fields["path"]
            return self._file_message(folder / fields["path"], key, described=described, topic=topic)
        described["attributes"] = self._attributes(described)
        if "uri" in fields:
            if topic is None:
                raise UsageError(
                    "has a uri but no modality or topic: add one, since a uri is not fetched to detect its type"
                )
            key = fields.get("key") or fields["uri"]
            return self._message(topic=topic, key=key, payload=ClaimCheck(fields["uri"]), **described)
        data = fields["text"].encode()
        key = fields.get("key") or fields.get("id") or hashlib.sha256(data).hexdigest()
        topic = topic or self._topic_of(Modality.TEXT)
        return self._message(topic=topic, key=key, payload=Inline(data), content_type="text/plain", **described)

    def _topic_of_line(self, fields: JsonObject) -> str | None:
        if "modality" in fields:
            return self._topic_of(Modality(fields["modality"]))
        topic: str | None = fields.get("topic", self._options.topic)
        if topic is not None:
            check_topic(topic, self._settings)
        return topic

    # --- files and lines ---------------------------------------------------------------------------------------------

    def _attributes(self, described: JsonObject | None) -> dict[str, Any]:
        own = (described or {}).get("attributes") or {}
        return {**own, **(self._options.attributes or {})}

    def _message(self, **fields: Any) -> Message:
        fields.setdefault("tenant", self._options.tenant or self._settings.tenant)
        return encode_event(source=SOURCE, **fields)


def check_topic(topic: str, settings: Settings) -> None:
    """Raises `UsageError` if the topic belongs to no modality."""
    if topic not in settings.kafka.topics():
        raise UsageError(f"{topic!r} is not a media topic; use one of {', '.join(settings.kafka.topics())}")


def _fields(line: str | bytes) -> JsonObject:
    """Returns the fields of a line; one that is null is absent. The mark that Windows' editors put first is skipped."""
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        fields = json.loads(text.removeprefix("\ufeff"))
    except UnicodeDecodeError as exc:
        raise UsageError(f"is not UTF-8: {exc.reason} at byte {exc.start:,}") from exc
    except json.JSONDecodeError as exc:
        raise UsageError(f"is not JSON: {exc}") from exc
    except ValueError as exc:  # a number of thousands of digits
        raise UsageError(f"has a number that is too long: {exc}") from exc
    except RecursionError as exc:
        raise UsageError("is nested too deeply") from exc
    if not isinstance(fields, dict):
        raise UsageError("is not a JSON object")
    for name, value in fields.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise UsageError(f"has half of a surrogate pair in {name!a}: its text was cut within a character") from exc
    return {name: value for name, value in fields.items() if value is not None}


def _check_line(fields: JsonObject) -> None:
    if unknown := sorted(fields.keys() - _JSONL_FIELDS):
        raise UsageError(f"has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(_JSONL_FIELDS))}")
    if len(fields.keys() & {"text", "path", "uri"}) != 1:
        raise UsageError("needs exactly one of text, path and uri")
    for name in _JSONL_FIELDS - {"attributes", "time"}:
        if not isinstance(fields.get(name, ""), str):
            raise UsageError(f"has a {name} that is not a string")
    if not isinstance(fields.get("attributes", {}), dict):
        raise UsageError("has attributes that are not a JSON object")
    if fields.get("modality", Modality.TEXT) not in set(Modality):
        raise UsageError(f"has an unknown modality {fields['modality']!r}; known are {', '.join(Modality)}")


def _time_ms(value: object) -> int | None:
    """Returns milliseconds since the epoch, from RFC 3339 or a number of milliseconds."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in _TIMES_MS:
            raise UsageError(f"has a time outside of the years 1 to 9999: {value:,} milliseconds since 1970")
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as exc:
        raise UsageError(f"has a time that is neither RFC 3339 nor milliseconds: {value!r}") from exc
    if moment.tzinfo is None:
        raise UsageError(f"has a time without UTC offset: {value!r}")
    return round(moment.timestamp() * 1000)
