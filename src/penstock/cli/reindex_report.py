"""Measures both versions of the index for `penstock reindex compare`, and lays the figures out."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from penstock.assembly import open_store, open_version
from penstock.assets import AssetStore
from penstock.client import key_source, query_url
from penstock.client.credentials import credentials_of
from penstock.config import Settings, start_hint
from penstock.config.addresses import trusted
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError, UsageError
from penstock.evaluate.agreement import Agreement, ComparedQuery, compare_answers, keys_of_hits, queries_of_index
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation import EvaluationOptions, choose_queries
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.live import DEADLINE_MS, HITS, tenant_of
from penstock.serve.middleware.index_version import HEADER
from penstock.store.spec import index_spec
from penstock.versions import Reindex, version_settings
from penstock.versions.comparison import AssetComparison, compare_assets

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class VersionSize:
    """The size of one version: its entries, and the bytes of their vectors as float32, without indexes and columns."""

    entries: int
    vector_bytes: int


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The figures of both versions.

    Attributes:
        reindex: the versions.
        assets: how many each has, and which one lacks.
        sizes: of the old and the new version.
        agreements: of the answers, by the name of the set, or `index` for questions from the index.
    """

    reindex: Reindex
    assets: AssetComparison
    sizes: tuple[VersionSize, VersionSize]
    agreements: Mapping[str, Agreement]

    def failures(self, min_recall: float | None, *, waived: bool) -> Iterator[str]:
        """Yields a line for each reason against the switch."""
        if self.assets.missing and not waived:
            yield f"{self.assets.missing:,} assets are missing in version {self.reindex.to_version}."
        for name, agreement in self.agreements.items():
            if min_recall is not None and agreement.new.recall < min_recall:
                yield f"recall@10 of {name} is {agreement.new.recall:.3f}, below --min-recall {min_recall:g}."

    def count_rows(self) -> list[dict[str, object]]:
        """Returns the rows of the table of assets and entries."""
        old, new = self.reindex.from_version, self.reindex.to_version
        return [
            {
                "tenant": tenant,
                "topic": topic,
                f"assets v{old}": f"{before.assets:,}",
                f"assets v{new}": f"{after.assets:,}",
                f"entries v{old}": f"{before.entries:,}",
                f"entries v{new}": f"{after.entries:,}",
            }
            for (tenant, topic), (before, after) in self.assets.counts.items()
        ]

    def figure_rows(self) -> list[dict[str, object]]:
        """Returns the rows of the table of answers and sizes."""
        rows = [
            self._row("entries", *(f"{size.entries:,}" for size in self.sizes)),
            self._row("vectors", *(f"{size.vector_bytes / 1e6:,.1f} MB" for size in self.sizes)),
        ]
        for name, of in self.agreements.items():
            title = (
                f"{name}, {of.questions} questions" if of.labelled else f"{name}, {of.questions}, as the old version"
            )
            rows += [
                self._row(f"recall@10 ({title})", f"{of.old.recall:.3f}", f"{of.new.recall:.3f}"),
                self._row(f"nDCG@10 ({title})", f"{of.old.ndcg:.3f}", f"{of.new.ndcg:.3f}"),
                self._row(f"p50 ({name})", f"{of.old.p50_ms:.1f} ms", f"{of.new.p50_ms:.1f} ms"),
                self._row(f"p95 ({name})", f"{of.old.p95_ms:.1f} ms", f"{of.new.p95_ms:.1f} ms"),
            ]
        return rows

    def document(self) -> dict[str, object]:
        """Returns all figures for JSON."""
        return {
            "old": self.reindex.from_version,
            "new": self.reindex.to_version,
            "counts": [
                {"tenant": tenant, "topic": topic, "old": asdict(before), "new": asdict(after)}
                for (tenant, topic), (before, after) in self.assets.counts.items()
            ],
            "missing": self.assets.missing,
            "missing_assets": [asdict(asset) for asset in self.assets.named],
            "surplus": self.assets.surplus,
            "sizes": [asdict(size) for size in self.sizes],
            "answers": {name: asdict(agreement) for name, agreement in self.agreements.items()},
        }

    def _row(self, figure: str, old: str, new: str) -> dict[str, object]:
        return {"figure": figure, f"v{self.reindex.from_version}": old, f"v{self.reindex.to_version}": new}


def compare_versions(
    settings: Settings,
    assets: AssetStore,
    reindex: Reindex,
    sets: Sequence[Path],
    *,
    tenant: str,
    questions: int,
    split: str,
) -> ComparisonReport:
    """Reads the rows of both versions, and sends the query plane the same questions for both.

    Args:
        settings: with addresses.
        assets: the asset store.
        reindex: names the versions.
        sets: folders of evaluation sets; empty: questions from the index.
        tenant: whose entries give the questions.
        questions: their number.
        split: of the sets.

    Raises:
        UnavailableError: a service does not answer, or the query plane does not hold both versions.
        UsageError: a set is wrong, or there is nothing to ask.
    """
    versions = (reindex.from_version, reindex.to_version)
    datasets = [read_set(folder) for folder in sets]
    with (
        closing(open_version(settings.store, versions[0])) as old,
        closing(open_version(settings.store, versions[1])) as new,
    ):
        compared = compare_assets(old, new)
    sizes = tuple(_size_of(version_settings(settings, reindex, version)) for version in versions)
    questions_of = {dataset.name: _labelled(dataset, split) for dataset in datasets}
    tenants = {dataset.name: tenant_of(dataset) for dataset in datasets}
    if not datasets:
        questions_of, tenants = {"index": _from_index(settings, versions[0], tenant, questions)}, {"index": tenant}
    url = query_url(settings)
    with httpx.Client(
        base_url=url,
        auth=credentials_of(key_source(url, settings)),
        timeout=2 * DEADLINE_MS / 1000,
        verify=trusted(settings.query.ca_file),
    ) as client:
        agreements = {
            name: compare_answers(of_set, partial(_ask, client, settings, tenants[name]), *versions)
            for name, of_set in questions_of.items()
        }
    return ComparisonReport(reindex, compared, (sizes[0], sizes[1]), agreements)


def _size_of(settings: Settings) -> VersionSize:
    """Counts the entries of a version, by the settings of its plane."""
    profile = load_profile(settings.profile)
    spec = index_spec(profile, profile_fingerprints(profile), settings.store)
    with closing(open_store(settings.store)) as store:
        store.use_version(spec.version, spec.vectors)
        counts = {collection: store.count(collection) for collection in spec.vectors}
    numbers = sum(
        counts[collection] * vector.space.dim
        for collection, fields in spec.vectors.items()
        for vector in fields.values()
    )
    return VersionSize(sum(counts.values()), numbers * _FLOAT_BYTES)


def _labelled(dataset: EvaluationSet, split: str) -> list[ComparedQuery]:
    chosen = choose_queries(dataset, EvaluationOptions(split=split))
    return [_compared_query(dataset, query) for query in chosen.tolist()]


def _compared_query(dataset: EvaluationSet, number: int) -> ComparedQuery:
    query = dataset.queries[number]
    content: dict[str, object] = {"text": query.text}
    if query.image is not None:
        content = {"image": base64.b64encode(query.image.read_bytes()).decode()}
    rows = dataset.judgements.rows()[number].tolist()
    gains = dataset.judgements.gains_by_query()[number].tolist()
    return ComparedQuery(content, {dataset.documents[row].id: gain for row, gain in zip(rows, gains, strict=True)})


def _from_index(settings: Settings, version: int, tenant: str, count: int) -> list[ComparedQuery]:
    of_version = settings.store.model_copy(update={"version": version})
    with closing(open_store(of_version, version=version)) as store:
        questions = queries_of_index(store, tenant, count, timeout_s=settings.store.timeout_s)
    if not questions:
        raise UsageError(
            f"version {version} of the index has no words of the tenant {tenant} to ask for: name another --tenant, or "
            "give evaluation sets"
        )
    return questions


def _ask(
    client: httpx.Client, settings: Settings, tenant: str, query: ComparedQuery, version: int
) -> tuple[list[str], float]:
    """Answers a question from a version: the keys of the documents, and the milliseconds of the round trip."""
    body = {"tenant": tenant, "limit": HITS, "deadline_ms": DEADLINE_MS, **query.content}
    started_s = time.perf_counter()
    try:
        response = client.post("/v1/search", json=body, headers={HEADER: str(version)})
    except httpx.HTTPError as exc:
        reason = str(exc) or type(exc).__name__
        raise UnavailableError(
            f"no query plane responds at {client.base_url} ({reason}). {start_hint(settings)}"
        ) from exc
    took_ms = (time.perf_counter() - started_s) * 1000
    if not response.is_success:
        raise UnavailableError(f"a search of version {version} failed with {response.status_code}: {response.text}")
    answer: dict[str, Any] = response.json()
    if answer["index_version"] != version:
        raise UnavailableError(
            f"the query plane at {client.base_url} answered from version {answer['index_version']}, not {version}: "
            "it is of an older Penstock"
        )
    return keys_of_hits(answer["hits"]), took_ms
