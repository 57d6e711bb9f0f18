"""The progress of the filling of a new version, and the assets that it cannot have.

Both are notes of the asset store, written by the plane that fills the version and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice

from penstock.assets import AssetStore
from penstock.errors import ConfigError
from penstock.records import AssetRef

NOTE = "reindex-progress.json"
MISSING_NOTE = "reindex-missing.jsonl"
# Where the group of the new version begins, while vectors are copied.
OFFSETS_NOTE = "reindex-offsets.json"

# Assets that are named; all are counted. 10,000 names take 1.5 MB, which one note may have.
MAX_NAMED = 10_000


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a new version that is filled.

    Attributes:
        done: assets of the old version that the new one has, or cannot have.
        total: assets of the old version.
        missing: those of them that are not available.
        rate_per_s: assets per second, of late.
        updated_ms: when this was counted, milliseconds since the epoch.
        after: the id of the last asset whose media the topics no longer have and that was handed over; empty: none.
        lag: events of the topics that the new version's group has not settled.
        filled: whether every asset that the topics no longer have was handed over.
        turn: how often the old version was gone through before.
        sent: by topic and partition, the offset after the last event that was sent again in this turn.
        normal_s: age of the oldest live event that was not settled before the fill began, seconds.
    """

    done: int
    total: int
    missing: int
    rate_per_s: float
    updated_ms: int
    after: str = ""
    lag: int = 0
    filled: bool = False
    turn: int = 0
    sent: Mapping[str, int] = field(default_factory=dict)
    normal_s: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this rate; None if nothing says how long."""
        left = max(self.total - self.done, 0)
        if not left:
            return 0.0
        return left / self.rate_per_s if self.rate_per_s > 0 else None


@dataclass(frozen=True, slots=True)
class MissingAsset:
    """An asset of the old version that the new one cannot have, with the reason in one line."""

    asset: AssetRef
    reason: str


def read_progress(assets: AssetStore) -> Progress | None:
    """Returns the progress; None before the first count.

    Raises:
        ConfigError: the note is damaged.
        UnavailableError: the asset store does not answer.
    """
    data = assets.note(NOTE)
    if data is None:
        return None
    try:
        content = json.loads(data)
        names = {attribute.name for attribute in fields(Progress)}
        return Progress(**{name: value for name, value in content.items() if name in names})
    except (ValueError, TypeError, AttributeError) as exc:
        raise ConfigError(f"the note {NOTE} of the asset store {assets.url} cannot be read: {exc!r}") from exc


def write_progress(assets: AssetStore, progress: Progress) -> None:
    """Writes the progress, in place of an older one. Raises `UnavailableError`."""
    assets.put_note(NOTE, json.dumps(asdict(progress)).encode())


def read_missing(assets: AssetStore) -> Sequence[MissingAsset]:
    """Returns the named assets, at most `MAX_NAMED`; `Progress.missing` counts all.

    Raises:
        ConfigError: the note is damaged.
        UnavailableError: the asset store does not answer.
    """
    data = assets.note(MISSING_NOTE) or b""
    try:
        lines = [json.loads(line) for line in data.splitlines()]
        return [MissingAsset(AssetRef(line["tenant"], line["topic"], line["key"]), line["reason"]) for line in lines]
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigError(f"the note {MISSING_NOTE} of the asset store {assets.url} cannot be read: {exc!r}") from exc


def write_missing(assets: AssetStore, missing: Iterable[MissingAsset]) -> None:
    """Names the first `MAX_NAMED` of these assets, in place of those named before. Raises `UnavailableError`."""
    lines = (
        json.dumps({**asdict(entry.asset), "reason": entry.reason}, ensure_ascii=False)
        for entry in islice(missing, MAX_NAMED)
    )
    assets.put_note(MISSING_NOTE, "\n".join(lines).encode())


def drop_progress(assets: AssetStore) -> None:
    """Removes the notes of a fill. Raises `UnavailableError`."""
    assets.drop_note(NOTE)
    assets.drop_note(OFFSETS_NOTE)
    assets.drop_note(MISSING_NOTE)
