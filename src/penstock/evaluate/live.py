"""Evaluates a set through the running planes: from Kafka to the hits of `/v1/search`.

    1 produce   every document as an event of a tenant that is named after the set's hash
    2 wait      until each of them has its outcome, by the asset rows of the store
    3 search    one query after the other over HTTP, so that the times are those of a plane without other load

The tenant keeps the set apart from everything else in the index. A set that is indexed already is not produced again.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import numpy.typing as npt

from penstock.assembly import open_store
from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.broker.wire import encode_event
from penstock.client import key_source, query_url
from penstock.client.credentials import credentials_of
from penstock.config import Settings, start_hint
from penstock.config.addresses import trusted
from penstock.errors import UnavailableError, UsageError
from penstock.evaluate.evaluation import Evaluated, EvaluationOptions, choose_queries, evaluate_queries
from penstock.evaluate.evaluation_set import Document, EvaluationSet, LabelledQuery
from penstock.evaluate.metrics import Run
from penstock.evaluate.offline import levels
from penstock.evaluate.tables import SEARCH
from penstock.records import AssetRef, Inline, Modality, Outcome

if TYPE_CHECKING:
    from penstock.store.base import AssetLookup

HITS = 20
DEADLINE_MS = 10_000
_SOURCE = "penstock/evaluate"
_POLL_S = 0.5
_ROWS = 500  # asset rows looked up in one call
_MAX_UNACKNOWLEDGED = 500
# Without a new outcome for this long, the set is given up: a batch of speech takes less.
_STALLED_AFTER_S = 300.0


def evaluate_live(
    dataset: EvaluationSet,
    settings: Settings,
    options: EvaluationOptions,
    *,
    fuse: Mapping[str, object],
    report: Callable[[str], None],
) -> Evaluated:
    """Indexes a set through the running planes and evaluates their hits.

    Args:
        dataset: the set.
        settings: with the addresses of the planes.
        options: split, metrics and intervals.
        fuse: of each request; empty for the settings of the query plane.
        report: takes lines about the progress.

    Raises:
        UnavailableError: a plane or a service does not answer, or documents got no outcome in time.
        UsageError: a document became a dead letter, or the split has no query.
    """
    queries = choose_queries(dataset, options)
    tenant = tenant_of(dataset)
    index_set(dataset, tenant, settings, report)
    url = query_url(settings)
    report(f"{dataset.name}: {len(queries)} queries to {url}")
    common = {"tenant": tenant, "limit": HITS, "deadline_ms": DEADLINE_MS, **({"fuse": fuse} if fuse else {})}
    credentials = credentials_of(key_source(url, settings))
    with httpx.Client(
        base_url=url, auth=credentials, timeout=2 * DEADLINE_MS / 1000, verify=trusted(settings.query.ca_file)
    ) as client:
        run, times = _search_all(dataset, queries, lambda query: _search(client, query, common, settings))
    return evaluate_queries(dataset, queries, {SEARCH: run}, options, latencies=times)


def tenant_of(dataset: EvaluationSet) -> str:
    """Returns the tenant that holds the documents of a set."""
    return f"evaluation-{dataset.name}-{dataset.hash}"


# --- 1 produce, 2 wait -----------------------------------------------------------------------------------------------


def index_set(dataset: EvaluationSet, tenant: str, settings: Settings, report: Callable[[str], None]) -> None:
    """Produces the documents that are not indexed yet, and waits until all are. Errors as `evaluate_live`."""
    assets = {_asset(document, tenant, settings): document for document in dataset.documents}
    store = open_store(settings.store)
    try:
        missing = _without_row(assets, store)
        if not missing:
            return
        report(f"{dataset.name}: {len(missing)} documents to Kafka")
        started = time.monotonic()
        _produce([_message(asset, assets[asset]) for asset in missing], settings)
        _await_rows(missing, store, settings)
        report(f"{dataset.name}: indexed after {time.monotonic() - started:.1f} s")
    finally:
        store.close()


def _asset(document: Document, tenant: str, settings: Settings) -> AssetRef:
    return AssetRef(tenant, settings.kafka.topic_of(Modality(document.modality), tenant), document.id)


def _message(asset: AssetRef, document: Document) -> Message:
    """Returns the event of a document, without its title: that of an image is searched, and would be the answer."""
    data = document.file.read_bytes() if document.file else document.text.encode()
    return encode_event(
        topic=asset.topic,
        key=asset.key,
        payload=Inline(data),
        source=_SOURCE,
        content_type=None if document.file else "text/plain",
        tenant=asset.tenant,
    )


def _produce(messages: list[Message], settings: Settings) -> None:
    producer = MessageProducer(settings.kafka)
    try:
        unacknowledged: deque[Future[Any]] = deque()
        for message in messages:
            unacknowledged.append(producer.send(message))
            if len(unacknowledged) >= _MAX_UNACKNOWLEDGED:
                unacknowledged.popleft().result()
        for future in unacknowledged:
            future.result()
    finally:
        producer.close(10.0)


def _await_rows(assets: Mapping[AssetRef, Document] | list[AssetRef], store: AssetLookup, settings: Settings) -> None:
    """Waits until every asset has its row. With the lag at 0, an asset without a row is a dead letter."""
    topics = sorted({asset.topic for asset in assets})
    remaining, progress_at = list(assets), time.monotonic()
    while remaining:
        lag = sum(partition.lag for partition in group_lag(settings.kafka, topics))
        still = _without_row(remaining, store)  # after the lag: an event below it is settled
        if still and lag == 0:
            raise UsageError(
                f"{len(still)} documents could not be indexed, the first is {still[0].key}; "
                "`penstock deadletters list` shows the reasons"
            )
        if len(still) < len(remaining):
            progress_at = time.monotonic()
        elif time.monotonic() - progress_at > _STALLED_AFTER_S:
            raise UnavailableError(
                f"{len(still)} documents were not indexed, and none in {_STALLED_AFTER_S:.0f} s; see `penstock status`"
            )
        remaining = still
        if remaining:
            threading.Event().wait(_POLL_S)


def _without_row(assets: Mapping[AssetRef, Document] | list[AssetRef], store: AssetLookup) -> list[AssetRef]:
    chosen = list(assets)
    missing: list[AssetRef] = []
    for start in range(0, len(chosen), _ROWS):
        part = chosen[start : start + _ROWS]
        rows = store.asset_rows([asset.id for asset in part])
        missing += [asset for asset in part if asset.id not in rows or rows[asset.id].outcome is not Outcome.INDEXED]
    return missing


# --- 3 search --------------------------------------------------------------------------------------------------------


def _search_all(
    dataset: EvaluationSet, queries: npt.NDArray[np.int64], search: Callable[[LabelledQuery], dict[str, Any]]
) -> tuple[Run, dict[str, npt.NDArray[np.float64]]]:
    """Returns the run of these queries, and the milliseconds of each by step."""
    row_of = {document.id: row for row, document in enumerate(dataset.documents)}
    documents = np.full((len(queries), HITS), -1, dtype=np.int64)
    scores = np.full((len(queries), HITS), -np.inf)
    times: dict[str, list[float]] = {}
    for place, query in enumerate(queries.tolist()):
        started = time.perf_counter()
        answer = search(dataset.queries[query])
        times.setdefault("round trip", []).append((time.perf_counter() - started) * 1000)
        for step, milliseconds in answer["took_ms"].items():
            times.setdefault(step, []).append(milliseconds)
        hits = list(_first_hits(answer["hits"], row_of))
        documents[place, : len(hits)] = [row for row, _ in hits]
        scores[place, : len(hits)] = levels([key for _, key in hits])
    return Run(documents, scores), {step: np.array(values) for step, values in times.items()}


def _search(
    client: httpx.Client, query: LabelledQuery, common: Mapping[str, object], settings: Settings
) -> dict[str, Any]:
    if query.image is None:
        content = {"text": query.text}
    else:
        content = {"image": base64.b64encode(query.image.read_bytes()).decode()}
    try:
        response = client.post("/v1/search", json={**common, **content})
    except httpx.HTTPError as exc:
        reason = str(exc) or type(exc).__name__
        raise UnavailableError(
            f"no query plane responds at {client.base_url} ({reason}). {start_hint(settings)}"
        ) from exc
    if not response.is_success:
        raise UnavailableError(f"the search for query {query.id!r} failed with {response.status_code}: {response.text}")
    answer: dict[str, Any] = response.json()
    if answer["partial"]:
        raise UnavailableError(f"the search for query {query.id!r} lacks channels: {answer['missing']}")
    return answer


def _first_hits(hits: list[dict[str, Any]], row_of: Mapping[str, int]) -> Iterator[tuple[int, tuple[float, str]]]:
    """Yields the documents of the hits, each once, with what hits that tie have in common."""
    seen: set[int] = set()
    for hit in hits:
        row = row_of[hit["key"]]
        if row not in seen:
            seen.add(row)
            yield row, (float(hit["score"]), str(hit["collection"]))
