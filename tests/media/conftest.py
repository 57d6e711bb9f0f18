"""Events, fetched media and a tokenizer for the tests of this folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.assets import AssetStore
from penstock.config import FetchRule, FetchSettings
from penstock.media.fetch import Fetcher
from penstock.media.networks import NEVER
from penstock.media.sniff import sniff
from penstock.records import AssetRef, ClaimCheck, Event, FetchedMedia, Inline, Modality, Position
from tests.media.helpers import TOPICS
from tests.media.http_server import Server, running_server

# The servers of tests are on loopback, which the table of the product never allows.
LOOPBACK = (FetchRule(tenants=("*",), scheme="http", host="*", networks=("127.0.0.0/8",)),)


class WordTokenizer:
    """A tokenizer to which a word, a mark of punctuation and an ideograph are one token each."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [
            len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+|[^\w\s]", t)) for t in texts
        ]


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture
def event_of() -> Callable[..., Event]:
    """Returns a function that makes events with consecutive offsets."""
    count = iter(range(1_000_000))

    def make(
        payload: bytes | str | None,
        *,
        modality: Modality = Modality.IMAGE,
        declared: str | None = None,
        title: str = "",
    ) -> Event:
        offset = next(count)
        at = Position(TOPICS[modality], 0, offset)
        holder = ClaimCheck(payload) if isinstance(payload, str) else None if payload is None else Inline(payload)
        asset = AssetRef("default", at.topic, f"key-{offset}")
        return Event(asset, at, at, 1_700_000_000_000, modality, holder, content_type=declared, title=title)

    return make


@pytest.fixture
def fetched_of(event_of: Callable[..., Event]) -> Callable[..., FetchedMedia]:
    """Returns a function that makes fetched media as `Fetcher` does, with their detected type."""

    def make(
        data: bytes | str, *, declared: str | None = None, modality: Modality | None = None, title: str = ""
    ) -> FetchedMedia:
        data = data.encode() if isinstance(data, str) else data
        sniffed = sniff(data, declared=declared)
        sha256 = hashlib.sha256(data).hexdigest()
        uri = f"asset:{sha256}"
        topic = modality or sniffed.modality or Modality.TEXT
        return FetchedMedia(
            event_of(uri, modality=topic, declared=declared, title=title), data, sniffed.mime, sha256, uri
        )

    return make


@pytest.fixture
def assets(tmp_path: Path) -> AssetStore:
    return AssetStore((tmp_path / "assets").as_uri())


@pytest.fixture
def fetcher_of(assets: AssetStore) -> Iterator[Callable[..., Fetcher]]:
    """Returns a function that makes fetchers which may reach loopback and do not wait between attempts, by default."""
    fetchers: list[Fetcher] = []

    def make(
        *,
        options: Mapping[str, Any] | None = None,
        allow: Sequence[FetchRule] = (),
        loopback: bool = True,
        **settings: Any,
    ) -> Fetcher:
        limits = FetchSettings(**{"allow": (*allow, *(LOOPBACK if loopback else ())), "deadline_s": 5.0, **settings})
        defaults = {"sleep": lambda _: None, "never": () if loopback else NEVER}
        fetchers.append(Fetcher(limits, assets, topic_of=TOPICS, **{**defaults, **(options or {})}))
        return fetchers[-1]

    yield make
    for fetcher in fetchers:
        fetcher.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server
