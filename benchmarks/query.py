"""`penstock bench query`: POST /v1/search beside the parts it is made of.

The parts are the store's own search of the same channels, all concurrently, from one process as in a replica, the
encoder alone, and a route of the same deployment that does nothing. What store and encoder allow together is their
times added, as they share the machine. With `steps` the same question is sent with the steps of a search on and off.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from benchmarks.components import Component
from benchmarks.host_info import machine_facts
from benchmarks.query_steps import LoadResult, requests_by_step, step_rows
from benchmarks.stack import LocalStack, running_stack, stack_settings, temporary_folder
from benchmarks.statistics import median
from benchmarks.synthetic_index import QuerySampler, fill, unit_vector
from penstock.assembly import open_store
from penstock.config import Settings
from penstock.encoders.load import load_encoder, profile_fingerprints
from penstock.encoders.profiles import Profile, load_profile, role_of
from penstock.errors import UnavailableError
from penstock.query.embed import MAX_BATCH
from penstock.query.route import route
from penstock.query.types import ChannelQuery, SearchRequest
from penstock.query.understand.validate import validate
from penstock.records import Access, EncoderInput
from penstock.store.base import EntryQuery, Store
from penstock.store.milvus.store import MilvusStore
from penstock.store.spec import index_spec

Reporter: TypeAlias = Callable[[str], None]

_SEED = 20_24
_TIMEOUT_S = 30.0
_TURNS_OF_ONE = 15
_DEADLINE_MS = 30_000  # no answer of a loaded machine may leave a channel out: it would be faster and worth less


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The load of one run.

    Attributes:
        profile: its query encoders.
        entries: in the index, half of them texts and half images.
        clients: levels of concurrency.
        seconds: how long each level is measured, in each round.
        rounds: of all levels, the API and the parts in turn; medians are reported.
        store_uri: a Milvus to use instead of the embedded Lite; its collections are written to.
        steps: whether each step is measured on and off, instead of the parts.
    """

    profile: str = "reference"
    entries: int = 20_000
    clients: Sequence[int] = (1, 8, 32)
    seconds: float = 6.0
    rounds: int = 3
    store_uri: str | None = None
    steps: bool = False


def merged(loads: Sequence[LoadResult]) -> LoadResult:
    """Several whiles as one."""
    parts = {part for load in loads for part in load.cpu_s}
    return LoadResult(
        [took_ms for load in loads for took_ms in load.took_ms],
        sum(load.took_s for load in loads),
        {part: sum(load.cpu_s[part] for load in loads) for part in parts},
    )


def bench_query(plan: QueryPlan, say: Reporter) -> dict[str, Any]:
    """Fills an index, then queries it at each level, through the API and through the parts.

    Returns:
        plain JSON values; one row a level of concurrency.

    Raises:
        PenstockError: something did not start; an answer was an error or partial.
    """
    facts = machine_facts()
    with temporary_folder() as folder:
        settings = stack_settings(
            folder,
            profile=plan.profile,
            store_uri=plan.store_uri,
            query={
                "port": 0,
                "deadline_ms": _DEADLINE_MS,
                "result_cache_bytes": 0,  # questions repeat
                "relevance_floor": 0.0,  # made entries answer no question, and diversity leaves such hits out
            },
        )
        say(f"starting a whole Penstock with profile {plan.profile} in {folder}")
        with running_stack(settings) as stack, opened_index(stack.settings) as store:
            profile = load_profile(plan.profile)
            say(f"writing {plan.entries} entries")
            fill(store, profile, plan.entries, settings.tenant)
            parts = _Parts(store, stack.settings, profile)
            rows = _steps(plan, stack, say) if plan.steps else _levels(plan, stack, parts, say)
    return {
        "profile": plan.profile,
        "entries": plan.entries,
        "store": parts.product,
        "channels": [str(probe.channel) for probe in parts.probes],
        "machine": facts,
        "rows": rows,
    }


def _levels(plan: QueryPlan, stack: LocalStack, parts: _Parts, say: Reporter) -> list[dict[str, Any]]:
    measured: dict[int, dict[str, list[LoadResult]]] = {clients: {} for clients in plan.clients}
    questions = QuerySampler()
    with Api(stack.query_url) as api:
        for number, clients in itertools.product(range(plan.rounds), plan.clients):
            ways: Mapping[str, Callable[[], object]] = {
                "api": lambda: api.search({"text": questions.query()}),
                "route": api.empty,
                "store": lambda: parts.search(questions.query()),
                "encoder": lambda: parts.encode(questions.query()),
            }
            for name, load in _in_turn(ways, stack, clients=clients, seconds=plan.seconds).items():
                measured[clients].setdefault(name, []).append(load)
            latest = measured[clients]["api"][-1]
            say(f"round {number + 1}, {clients} clients: p50 {latest.p50_ms:.0f} ms, {latest.per_s:.1f}/s")
    return [_row(clients, loads) for clients, loads in measured.items()]


def _steps(plan: QueryPlan, stack: LocalStack, say: Reporter) -> list[dict[str, Any]]:
    """Measures each kind of request of `benchmarks.query_steps`, and the empty route beside them."""
    kinds = requests_by_step()
    loads: dict[tuple[str, int], list[LoadResult]] = {}
    questions = QuerySampler()
    with Api(stack.query_url) as api:
        ways: dict[str, Callable[[], object]] = {"empty route": api.empty}
        ways |= {name: partial(kind.send, api.search, questions.query) for name, kind in kinds.items()}
        for number, clients in itertools.product(range(plan.rounds), plan.clients):
            for name, load in _in_turn(ways, stack, clients=clients, seconds=plan.seconds).items():
                loads.setdefault((name, clients), []).append(load)
            say(f"round {number + 1}, {clients} clients")
    return step_rows(loads)


def _in_turn(
    ways: Mapping[str, Callable[[], object]], stack: LocalStack, *, clients: int, seconds: float
) -> Mapping[str, LoadResult]:
    """Runs each way for `seconds` seconds.

    A single client changes between them every few answers, so that other load of the machine affects all alike; many
    clients need a while until each of them has been answered.
    """
    turns = _TURNS_OF_ONE if clients == 1 else 1
    loads: dict[str, list[LoadResult]] = {name: [] for name in ways}
    for _, (name, ask) in itertools.product(range(turns), ways.items()):
        before = stack.cpu_s()
        load = run_load(ask, clients=clients, seconds=seconds / turns)
        spent = {part: cpu_s - before[part] for part, cpu_s in stack.cpu_s().items()}
        loads[name].append(replace(load, cpu_s=spent))
    return {name: merged(results) for name, results in loads.items()}


def _row(clients: int, loads: Mapping[str, Sequence[LoadResult]]) -> dict[str, Any]:
    """Medians over the rounds, and what the parts allow."""
    row: dict[str, Any] = {"clients": clients}
    for name, rounds in loads.items():
        for figure in ("p50_ms", "p95_ms", "per_s"):
            row[f"{name}_{figure}"] = median([getattr(load, figure) for load in rounds])
    for part in (Component.QUERY, Component.STORE, Component.RAY):
        spent_ms = [load.cpu_s[part] / len(load.took_ms) * 1000 for load in loads["api"]]
        row[f"api_{part}_cpu_ms"] = median(spent_ms)
    row["parts_per_s"] = 1 / (1 / row["store_per_s"] + 1 / row["encoder_per_s"])
    row["share_of_parts"] = row["api_per_s"] / row["parts_per_s"]
    row["above_parts_ms"] = row["api_p50_ms"] - row["store_p50_ms"] - row["encoder_p50_ms"]
    row["above_route_ms"] = row["above_parts_ms"] - row["route_p50_ms"]
    return row


def run_load(ask: Callable[[], object], *, clients: int, seconds: float) -> LoadResult:
    """Queries from `clients` threads concurrently, each as soon as it has its answer. The first error ends the load."""
    took_ms: list[float] = []
    errors: list[BaseException] = []
    ends_s = time.perf_counter() + seconds

    def client() -> None:
        try:
            while not errors and time.perf_counter() < ends_s:
                began_s = time.perf_counter()
                ask()
                took_ms.append((time.perf_counter() - began_s) * 1000)
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    took_s = time.perf_counter() - began_s
    return LoadResult(took_ms, took_s)


# --- the API ---------------------------------------------------------------------------------------------------------


class Api:
    """POST /v1/search over connections that are kept, one a thread. http.client, which costs a tenth of httpx: what the
    clients burn, the server lacks.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()

    def search(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the JSON of the answer. Raises UnavailableError for an error or a missing channel."""
        answer: dict[str, Any] = json.loads(self._answer("POST", "/v1/search", json.dumps(request)))
        if answer["partial"] or not answer["hits"]:
            raise UnavailableError(f"/v1/search left channels out: {answer['missing']}")
        return answer

    def empty(self) -> None:
        """Calls a route that does nothing, of the deployment that searches."""
        self._answer("GET", "/healthz", None)

    def _answer(self, method: str, path: str, body: str | None) -> bytes:
        connection = self._connection()
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise UnavailableError(f"{path} answered {response.status}: {answer[:300].decode(errors='replace')}")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._address.hostname or "", self._address.port
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
            self._local.connection = connection
            self._open.append(connection)
        return connection


# --- the parts -------------------------------------------------------------------------------------------------------


class _Parts:
    """The store's search and the encoder, as a replica uses them, without what stands around them.

    Args:
        store: the index.
        settings: the candidates of a channel and the number of threads.
        profile: of the encoders.
    """

    def __init__(self, store: Store, settings: Settings, profile: Profile) -> None:
        self._store, self._settings = store, settings
        query = validate(SearchRequest(text="anything"), settings.query)
        self.probes: Sequence[ChannelQuery] = route(query, offered=store.channels(), profile=profile).queries
        self.product = store.capabilities.product
        self._threads = ThreadPoolExecutor(settings.query.search_threads)
        self._vectors = {
            probe: unit_vector(np.random.default_rng(_SEED), _dim(probe, profile)) for probe in self.probes
        }
        role = role_of(next(probe.encoder for probe in self.probes if probe.encoder))
        # One thread, as a replica that reserves no CPUs has it.
        self._encoder = load_encoder(
            role, profile, precision=settings.precision, device=settings.device, cache_size=0, threads=1
        )
        self._role, self._lock = role, threading.Lock()
        self._line: deque[_Waiting] = deque()

    def search(self, text: str) -> None:
        """Searches every channel concurrently and returns with the last.

        BM25 gets the text, on which its time depends.
        """
        for searched in [self._threads.submit(self._search_one, probe, text) for probe in self.probes]:
            searched.result()

    def encode(self, text: str) -> None:
        """One text, together with those that came while the encoder was busy."""
        mine = _Waiting(text, threading.Event())
        self._line.append(mine)
        while not mine.done.is_set():
            with self._lock:
                batch = [self._line.popleft() for _ in range(min(MAX_BATCH, len(self._line)))]
                if batch:
                    texts = tuple(waiting.text for waiting in batch)
                    self._encoder.encode(EncoderInput(self._role, texts, texts=texts))
                for waiting in batch:
                    waiting.done.set()

    def _search_one(self, probe: ChannelQuery, text: str) -> None:
        content = self._vectors[probe] if probe.encoder else text
        limit = self._settings.query.candidates
        self._store.search(
            EntryQuery(
                probe.channel,
                content,
                Access.to_all_of(self._settings.tenant),
                where=None,
                limit=limit,
                timeout_s=_TIMEOUT_S,
            )
        )


@dataclass(frozen=True, slots=True)
class _Waiting:
    text: str
    done: threading.Event


def _dim(probe: ChannelQuery, profile: Profile) -> int:
    return profile.space(role_of(probe.encoder)).dim if probe.encoder else 1


@contextmanager
def opened_index(settings: Settings) -> Iterator[MilvusStore]:
    """Opens the index of a stack, whose collections are created if they are missing."""
    store = open_store(settings.store)
    profile = load_profile(settings.profile)
    try:
        store.ensure(index_spec(profile, profile_fingerprints(profile), settings.store))
        yield store
    finally:
        store.close()
