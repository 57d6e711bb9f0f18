"""Produces one event of each modality and finds it, then deletes it: what `helm test` runs.

Exits with 1 if one is not found in time, and says which.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from penstock.config import load_settings
from penstock.records import Modality
from penstock.samples import load_concepts, load_rendering, sample_texts
from penstock.samples.documents import sample_documents
from penstock.samples.timed_media import sample_timed_media

_TENANT = "helm-test"
_INTERVAL_S = 1.0


def main() -> None:
    """Produces, searches until all are found or the time is over, and deletes what it produced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the query plane")
    parser.add_argument("--timeout", type=float, default=300.0, help="time for all to be found, seconds")
    parser.add_argument("modalities", nargs="+", choices=[modality.value for modality in Modality])
    options = parser.parse_args()
    run = uuid.uuid4().hex[:12]
    files = {name: sample_of(Modality(name), Path(mkdtemp())) for name in options.modalities}
    keys = {name: f"{run}/{name}{file.suffix}" for name, file in files.items()}
    for name, file in files.items():
        _penstock("produce", str(file), "--tenant", _TENANT, "--key", keys[name])
    try:
        missing = _search(options.url, keys, options.timeout)
    finally:
        for name, key in keys.items():
            topic = load_settings().kafka.topic_of(Modality(name))
            _penstock("produce", "--tenant", _TENANT, "--delete", key, "--topic", topic)
    if missing:
        sys.exit(f"not found within {options.timeout:.0f} s: {', '.join(missing)}")


def sample_of(modality: Modality, folder: Path) -> Path:
    """Returns a file of the modality, from the samples that ship with the package."""
    if modality is Modality.TEXT:
        file = folder / "sample.txt"
        file.write_text(sample_texts()[0].text, encoding="utf-8")
        return file
    if modality is Modality.IMAGE:
        file = folder / "sample.png"
        load_rendering(load_concepts()[0]).save(file)
        return file
    if modality is Modality.DOCUMENT:
        return sample_documents()[0].file
    return next(media.file for media in sample_timed_media() if media.modality is modality)


def _search(url: str, keys: Mapping[str, str], timeout_s: float) -> list[str]:
    """Searches for the keys until each is found. Returns the modalities of those that are not."""
    missing = dict(keys)
    started = time.monotonic()
    while missing and time.monotonic() < started + timeout_s:
        for name, key in list(missing.items()):
            if _finds(url, name, key):
                sys.stdout.write(f"{name}: found after {time.monotonic() - started:.1f} s\n")
                sys.stdout.flush()
                del missing[name]
        if missing:
            time.sleep(_INTERVAL_S)
    return list(missing)


def _finds(url: str, modality: str, key: str) -> bool:
    """Returns whether a search that only this asset passes has a hit. A query plane that starts has none."""
    where = ("--tenant", _TENANT, "--modality", modality, "--where", f"key={key}")
    result = subprocess.run(
        ["penstock", "search", "anything at all", "--url", url, "--limit", "1", "--json", *where],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode == 0 and any(hit["key"] == key for hit in json.loads(result.stdout)["hits"])


def _penstock(*arguments: str) -> None:
    subprocess.run(["penstock", *arguments], check=True)


if __name__ == "__main__":
    main()
