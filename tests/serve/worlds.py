"""Two query planes that one caller must not tell apart: one with what it may not read, and one without that."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from penstock.auth import Permission
from penstock.auth.keys import new_key, write_keys
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.config import Settings
from penstock.query.watches.registry import WatchRegistry
from penstock.records import DEFAULT_LABEL, Access, Collection, Entry, Field, Watch
from penstock.serve.answer_logs import AnswerOwner, MemoryAnswerLogs
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.event_stream import ServerEvent
from penstock.serve.media_links import entry_name, media_name, words_name
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.watches import WatchService
from penstock.store.memory import MemoryStore
from tests.auth.test_keys import api_key
from tests.serve.routes.test_feedback import feedback_broker, taking
from tests.serve.routes.test_watches import TOPIC, Accepting
from tests.serve.sample_index import PROFILE, entry, png, vector

OWN, OTHER = "acme", "umbrella"
SECRET = "zebrafish"
"""A word that only hidden entries have."""
SUBJECT = "key:ci"
ANSWER_ID, WATCH_ID = "a" * 32, "b" * 32
"""An answer and a watch of the other tenant."""
OWN_TEXTS = ("a heron eats fish", "the fish market opens at six", "fog over the river")
LABEL = "hr"
"""A label that the caller's key does not have."""
LABELLED_TEXTS = (f"{SECRET} pays for the heron", "the fish market closes at noon")
HIDDEN_TEXTS = (f"{SECRET} salaries of the board", "a heron eats fish", f"the fish market sells {SECRET}")
OWN_SHADE = 40
"""Of the image that the caller may read."""
_CREATED_MS = 1_767_225_600_000
_COPIES = ((OWN, LABEL), (OTHER, DEFAULT_LABEL))
_LINKED = ((Collection.IMAGE, "picture"), (Collection.SPEECH, "film"))
_SIGNATURES = re.compile(r"(exp|sig)=[^&\"]*")
_OF_ONE_REQUEST = {"took_ms", "search_id", "answer_id", "uptime_s", "created", "created_at", "vector_cache"}


@dataclass(frozen=True)
class World:
    """A query plane, how to send it requests, and the names that a caller may try.

    Attributes:
        plane: the query plane.
        send: sends a request of the caller.
    """

    plane: QueryPlane
    send: Callable[..., httpx.Response]

    def signed(self, name: str) -> dict[str, str]:
        """Returns the parameters of a valid link, as an answer to the caller has them."""
        assert self.plane.media_links is not None
        link = self.plane.media_links.sign(name, tenant=OWN, subject=SUBJECT)
        return {"tenant": OWN, "exp": link.expires, "sig": link.signature}


@contextmanager
def world(folder: Path, *, has_hidden: bool) -> Iterator[World]:
    """Yields a world whose caller reads the tenant `OWN` alone."""
    folder.mkdir()
    key = new_key("ci")
    write_keys(folder / "keys.json", (api_key(key, permissions=tuple(set(Permission) - {Permission.ADMIN})),))
    settings = Settings(
        profile=PROFILE.name,
        data_dir=folder,
        auth={"mode": "keys"},  # type: ignore[arg-type]
        query={"deadline_ms": 60_000, "max_lag_ms": 0},  # type: ignore[arg-type]  # a busy machine leaves nothing out
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong", "timeout_s": 60.0},  # type: ignore[arg-type]
    )
    logs = MemoryAnswerLogs()
    plane = build_query_plane(settings, store=MemoryStore(), logs=logs)
    broker = MemoryBroker()
    broker.create_topic(TOPIC)
    registry = WatchRegistry(MemoryTail(broker, TOPIC, from_start=True), TOPIC, broker.producer, max_watches=1_000)
    registry.start()
    assert registry.wait_until_ready(60)
    fill(plane, OWN, OWN_TEXTS, shade=OWN_SHADE)
    if has_hidden:
        fill(plane, OTHER, HIDDEN_TEXTS, shade=250)
        fill(plane, OWN, LABELLED_TEXTS, shade=120, label=LABEL)
        registry.add(Watch(WATCH_ID, SECRET, OTHER, 0.5, _CREATED_MS, {"text": SECRET}))
        events, own_labels = [ServerEvent(SECRET, "token", 1)], frozenset({DEFAULT_LABEL})
        asyncio.run(logs.append(ANSWER_ID, AnswerOwner(OTHER, SUBJECT, own_labels), events, complete=True))
        asyncio.run(logs.append("c" * 32, AnswerOwner(OWN, "key:other", own_labels), events, complete=True))
        asyncio.run(logs.append("d" * 32, AnswerOwner(OWN, SUBJECT, own_labels | {LABEL}), events, complete=True))
    wait_for_words(plane)
    asyncio.run(count_shares(plane))
    watches = WatchService(
        registry, Accepting(), matches_topic="m", wall_ms=partial(next, itertools.count(_CREATED_MS))
    )  # type: ignore[arg-type]
    plane = replace(plane, watches=watches, feedback=taking(plane, feedback_broker()).feedback)
    yield World(plane, _sender(plane, key))
    registry.close()
    plane.close()


def wait_for_words(plane: QueryPlane) -> None:
    """Returns when the words of the caller's entries are counted, which happens in a thread."""
    vocabularies, ends_s = plane.words.vocabularies, time.monotonic() + 60
    assert vocabularies is not None
    while "heron" not in vocabularies.get(Access(OWN, frozenset({DEFAULT_LABEL}))):
        assert time.monotonic() < ends_s
        threading.Event().wait(0.01)


async def count_shares(plane: QueryPlane) -> None:
    """Counts the kinds that the caller may read, which searches start and do not wait for.

    Each request has a loop of its own here, which ends the count, or not: that would decide on the first places of all
    later searches.
    """
    shares, access = plane.pipeline._shares, Access(OWN, frozenset({DEFAULT_LABEL}))
    collections = frozenset(channel.collection for channel in plane.store.channels())
    shares.get(access, collections)
    refresh = shares._by_access[access].refresh
    assert refresh is not None
    await refresh
    assert shares.get(access, collections)


def fill(plane: QueryPlane, tenant: str, texts: tuple[str, ...], *, shade: int, label: str = DEFAULT_LABEL) -> None:
    """Writes texts, an image and the speech of a video of a tenant that carry a label."""

    def stored(collection: Collection, key: str, **fields: Any) -> Entry:
        return entry(collection, f"{key} {label}", tenant=tenant, acl=(label,), **fields)

    def vectors(text: str) -> dict[Field, Any]:
        return {Field.PASSAGE: vector("passage.text", text, plane.settings)}

    def joint(role: str, item: str | bytes) -> dict[Field, Any]:
        return {Field.JOINT: vector(role, item, plane.settings)}

    data = png(shade)
    uri = f"asset:{plane.assets.put(data)}"  # type: ignore[attr-defined]
    for text in texts:
        both = {**vectors(text), **joint("joint.text", text)}
        plane.store.upsert(
            Collection.TEXT, [stored(Collection.TEXT, text, text=text, end_char=len(text), vectors=both)]
        )
    image = stored(Collection.IMAGE, "picture", mime="image/png", uri=uri, vectors=joint("joint.image", data))
    plane.store.upsert(Collection.IMAGE, [image])
    film: dict[str, Any] = {"mime": "video/mp4", "uri": uri, "end_ms": 5_000}
    speech = stored(Collection.SPEECH, "film", text=texts[0], vectors=vectors(texts[0]), **film)
    plane.store.upsert(Collection.SPEECH, [speech])
    if (
        label != DEFAULT_LABEL or tenant != OWN
    ):  # an asset with the bytes of one that the caller reads, and longer words
        same: dict[str, Any] = {**film, "uri": f"asset:{plane.assets.put(png(OWN_SHADE))}", "end_ms": 9_000}  # type: ignore[attr-defined]
        copy = stored(Collection.SPEECH, "copy", text=f"{SECRET} {texts[0]}", vectors=vectors(texts[0]), **same)
        plane.store.upsert(Collection.SPEECH, [copy])


def known_ids() -> list[str]:
    """Returns ids of entries of both tenants and both labels, and of none."""
    parts = ((OWN, OWN_TEXTS, DEFAULT_LABEL), (OWN, LABELLED_TEXTS, LABEL), (OTHER, HIDDEN_TEXTS, DEFAULT_LABEL))
    ids = []
    for tenant, texts, label in parts:
        ids += [entry(Collection.TEXT, f"{text} {label}", tenant=tenant).id for text in texts]
        ids.append(entry(Collection.IMAGE, f"picture {label}", tenant=tenant).id)
        ids.append(entry(Collection.SPEECH, f"film {label}", tenant=tenant).id)
    return [*ids, *ids_of_copies(), ANSWER_ID, WATCH_ID, "c" * 32, "0" * 32]


def ids_of_copies() -> list[str]:
    """Returns ids of the hidden entries whose media are those of an entry that the caller reads."""
    return [entry(Collection.SPEECH, f"copy {label}", tenant=tenant).id for tenant, label in _COPIES]


def known_hashes(plane: QueryPlane) -> list[str]:
    """Returns hashes of the media of both tenants and both labels, and of none."""
    return [plane.assets.put(png(shade)) for shade in (40, 120, 250)] + ["0" * 64]  # type: ignore[attr-defined]


def linked_names() -> list[str]:
    """Returns what the links in the caller's answers are for, one of them of an entry that has other media since."""
    sha256 = hashlib.sha256(png(OWN_SHADE)).hexdigest()
    ids = [entry(collection, f"{key} {DEFAULT_LABEL}", tenant=OWN).id for collection, key in _LINKED]
    changed = entry(Collection.TEXT, f"{OWN_TEXTS[0]} {DEFAULT_LABEL}", tenant=OWN).id
    words = [words_name(sha256, entry_id) for entry_id in (*ids, changed)]
    return [media_name(sha256), *map(entry_name, ids), *words]


def observed(response: httpx.Response) -> tuple[Any, ...]:
    """Returns everything that a caller sees of an answer, but what differs between two requests of the same."""
    kind = response.headers.get("content-type", "")
    headers = sorted(name for name in response.headers if name != "x-request-id")
    body: Any = response.content
    if kind.startswith("application/") and "json" in kind:
        body = _comparable(json.loads(response.text))
    return response.status_code, kind, tuple(headers), body


def words_in_common(texts: Sequence[Counter[str]], question: Counter[str]) -> list[float]:
    """Returns the words of a question that are in each text, in place of BM25.

    Stores count words over a whole collection, so that the score of a word depends on hidden entries: the one thing
    that a caller may notice, which docs/auth.md names.
    """
    return [float(sum(min(text[term], 1) for term in question)) for text in texts]


def _comparable(value: Any) -> Any:
    if isinstance(value, str):  # the text of a tool's result is JSON, too
        return _comparable(json.loads(value)) if value.startswith("{") else _SIGNATURES.sub(r"\1=", value)
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() >= {"id", "name", "search"} or value.get("object") == "chat.completion":
        value = {**value, "id": "random"}
    return {name: _comparable(item) for name, item in value.items() if name not in _OF_ONE_REQUEST}


def _sender(plane: QueryPlane, key: str) -> Callable[..., httpx.Response]:
    app = create_app(plane)

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
                return await client.request(method, path, **options)

        return asyncio.run(sent())

    return send
