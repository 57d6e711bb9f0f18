from __future__ import annotations

import threading
import time

import pytest

from benchmarks.components import Component
from benchmarks.query import LoadResult, merged, run_load
from penstock.errors import UnavailableError


def test_so_many_clients_ask_at_once() -> None:
    together, met = threading.Barrier(4, timeout=60), threading.local()

    def ask() -> None:
        if not hasattr(met, "others"):  # the first query of each client is answered once all have sent one
            met.others = together.wait()

    load = run_load(ask, clients=4, seconds=0.05)

    assert load.per_s > 0
    assert load.p50_ms <= load.p95_ms


def test_an_answer_that_fails_ends_the_measurement() -> None:
    def ask() -> None:
        raise UnavailableError("the store does not answer")

    began_s = time.monotonic()
    with pytest.raises(UnavailableError, match="does not answer"):
        run_load(ask, clients=2, seconds=600.0)
    assert time.monotonic() - began_s < 60


def test_whiles_are_joined_to_one() -> None:
    whole = merged(
        [LoadResult([1.0, 9.0], 1.0, {Component.STORE: 0.5}), LoadResult([2.0], 2.0, {Component.STORE: 1.0})]
    )
    assert (whole.p50_ms, whole.per_s, whole.cpu_s) == (2.0, 1.0, {Component.STORE: 1.5})
