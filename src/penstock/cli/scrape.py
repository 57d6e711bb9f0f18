"""A client of a node's metrics endpoint: totals, shares and quantiles at one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from penstock.config import mask_userinfo, read_endpoints
from penstock.config.addresses import trusted
from penstock.errors import UnavailableError
from penstock.observability.exposition import read_url
from penstock.observability.metrics import name_of

if TYPE_CHECKING:
    from penstock.config import Settings

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples that an endpoint returned.

    Attributes:
        at_s: time of the scrape on the monotonic clock.
        samples: labels and value, by the sample's name.
    """

    at_s: float
    samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

    def by(self, metric: Counter | Gauge, label: str) -> dict[str, float]:
        """Returns the metric's values by one label, summed over the others."""
        return self._summed(name_of(metric) + ("_total" if isinstance(metric, Counter) else ""), label)

    def counts(self, metric: Histogram, label: str) -> dict[str, int]:
        """Returns the number of observations by one label."""
        return {value: int(count) for value, count in self._summed(f"{name_of(metric)}_count", label).items()}

    def quantile_s(self, metric: Histogram, q: float, **labels: str) -> float | None:
        """Returns the q-quantile of the observations with these labels since the start; None without any.

        It is linear within its bucket, as in Prometheus's `histogram_quantile`. An observation beyond the last bucket
        counts as that bucket's bound.
        """
        cumulated: dict[float, float] = {}
        for sample_labels, value in self.samples.get(f"{name_of(metric)}_bucket", ()):
            if labels.items() <= sample_labels.items():
                bound = float(sample_labels["le"])
                cumulated[bound] = cumulated.get(bound, 0.0) + value
        buckets = sorted(cumulated.items())
        if not buckets or not buckets[-1][1]:
            return None
        rank = q * buckets[-1][1]
        lower = below = 0.0
        for bound, count in buckets:
            if count >= rank and count > below:
                return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = bound, count
        return lower

    def _summed(self, name: str, label: str) -> dict[str, float]:
        sums: dict[str, float] = {}
        for labels, value in self.samples.get(name, ()):
            sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sums


def scrape(url: str, headers: Mapping[str, str] | None = None, ca_file: Path | None = None) -> Scrape:
    """Reads an endpoint, whose certificate the CAs of a file signed, or those of the system.

    Raises:
        UnavailableError: it does not respond.
    """
    try:
        response = httpx.get(url, headers=headers, timeout=_TIMEOUT_S, verify=trusted(ca_file))
        response.raise_for_status()
        return parse(response.text, at_s=time.monotonic())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        shown = mask_userinfo(f"{url} ({exc})")
        raise UnavailableError(f"no metrics at {shown}; the ingest or the query plane serves them") from exc


def merged(scrapes: Sequence[Scrape]) -> Scrape:
    """Returns the samples of several endpoints together. What sums over labels then sums over endpoints, too."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for scrape in scrapes:
        for name, values in scrape.samples.items():
            samples.setdefault(name, []).extend(values)
    return Scrape(max(scrape.at_s for scrape in scrapes), samples)


def parse(text: str, *, at_s: float) -> Scrape:
    """Reads Prometheus's text format. Raises ValueError if it is something else."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scrape(at_s, samples)


def metrics_url(settings: Settings) -> str:
    """Returns the URL of the metrics endpoint.

    It is the one of the running `penstock up`, else the one that a plane on this data folder served last, else the
    configured one.
    """
    running = read_endpoints(settings.data_dir)
    scheme = "http" if settings.metrics.tls_cert_file is None else "https"
    configured = f"{scheme}://{settings.metrics.host}:{settings.metrics.port}/metrics"
    return (running and running.metrics_url) or read_url(settings.metrics_dir) or configured
