"""Measures a search that the cache of results answers, beside an empty route of the same application.

    python -m benchmarks.result_cache [--rounds 300] [--limit 10]

Serves the application over HTTP from this process, with null encoders and a store in memory that holds the sample
texts. Requests to /healthz and to /v1/search alternate. Prints JSON: times in milliseconds and their difference,
also in CPU time of server and client together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import uvicorn

from benchmarks.statistics import median, quantile
from penstock.config import Settings
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, load_profile
from penstock.processes import free_port
from penstock.records import AssetRef, Collection, EncoderInput, Field, bare_entry
from penstock.samples.texts import sample_texts
from penstock.serve.app import build_query_plane, create_app
from penstock.store.memory import MemoryStore

_PROFILE = "null:384"


def main() -> None:
    """Runs the benchmark, as the module's docstring says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.result_cache", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="requests to each route")
    parser.add_argument("--limit", type=int, default=10, help="hits of an answer")
    options = parser.parse_args()
    with _served() as url, httpx.Client(base_url=url, timeout=30) as client:
        print(json.dumps(_measure(client, options.rounds, options.limit), indent=2))


def _measure(client: httpx.Client, rounds: int, limit: int) -> dict[str, float]:
    body = {"text": "something you eat at breakfast", "limit": limit}
    searched_s = _timed(client, body)
    empty_s, cached_s = [], []
    cpu_s = {"empty": 0.0, "cached": 0.0}
    for _ in range(rounds):
        began_s, before_s = time.perf_counter(), time.process_time()
        client.get("/healthz").raise_for_status()
        empty_s.append(time.perf_counter() - began_s)
        between_s = time.process_time()
        cached_s.append(_timed(client, body, cached=True))
        cpu_s["empty"] += between_s - before_s
        cpu_s["cached"] += time.process_time() - between_s
    return {
        "rounds": rounds,
        "limit": limit,
        "first_search_ms": round(searched_s * 1e3, 2),
        "empty_route_ms_p50": round(median(empty_s) * 1e3, 2),
        "cached_search_ms_p50": round(median(cached_s) * 1e3, 2),
        "cached_above_empty_ms_p50": round((median(cached_s) - median(empty_s)) * 1e3, 2),
        "cached_above_empty_cpu_ms": round((cpu_s["cached"] - cpu_s["empty"]) / rounds * 1e3, 2),
        "empty_route_ms_p95": round(quantile(empty_s, 0.95) * 1e3, 2),
        "cached_search_ms_p95": round(quantile(cached_s, 0.95) * 1e3, 2),
    }


def _timed(client: httpx.Client, body: dict[str, object], *, cached: bool = False) -> float:
    began_s = time.perf_counter()
    answer = client.post("/v1/search", json=body)
    took_s = time.perf_counter() - began_s
    answer.raise_for_status()
    assert ("cached" in answer.json()["took_ms"]) == cached
    return took_s


@contextmanager
def _served() -> Iterator[str]:
    """Yields the URL of an application with the sample texts, whose index no one changes."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(profile=_PROFILE, data_dir=Path(folder), store={"consistency": "Strong"})
        store = MemoryStore()
        plane = build_query_plane(settings, store)
        _fill(store, settings.tenant)
        plane.changes.set_available(True)
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(create_app(plane), port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def _fill(store: MemoryStore, tenant: str) -> None:
    texts = sample_texts()
    encoder = load_encoder(PASSAGE_TEXT, load_profile(_PROFILE))
    keys = tuple(text.key for text in texts)
    vectors = encoder.encode(EncoderInput(PASSAGE_TEXT, keys, texts=tuple(text.text for text in texts))).vectors
    entries = [
        replace(
            bare_entry(AssetRef(tenant, "media.text", text.key), Collection.TEXT),
            title=text.title,
            text=text.text,
            vectors={Field.PASSAGE: vector},
        )
        for text, vector in zip(texts, vectors, strict=True)
    ]
    store.upsert(Collection.TEXT, entries)


if __name__ == "__main__":
    main()
