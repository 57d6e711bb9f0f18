"""Measures how much a tenant that requests ten times its limit delays the searches of another one.

    python -m benchmarks.fairness [--rounds 5] [--seconds 40] [--limit 4] [--times 10] [--json FILE]

Starts a whole `penstock up` with API keys and `limits.tenant.requests_per_s`, and fills its index for two tenants. Each
of their clients is a process of its own. A round has three periods, in an order that changes from round to round: the
quiet tenant alone; beside the other one at its limit; beside the other one at ten times its limit, which does not wait
as answers with 429 say. The quiet tenant sends at the same moments in all three, and a time counts from the moment at
which a search was due.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.components import Component
from benchmarks.host_info import machine_facts
from benchmarks.paced_client import PacedClient, PacedOrder, PacedResult
from benchmarks.query import opened_index
from benchmarks.stack import LocalStack, running_stack, stack_settings, temporary_folder
from benchmarks.statistics import median, quantile
from benchmarks.synthetic_index import fill, sample_words
from penstock.auth import Permission
from penstock.auth.key_changes import KeyGrant, create_key
from penstock.cli.render import print_table
from penstock.config import Settings
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.records import DEFAULT_LABEL

Reporter: TypeAlias = Callable[[str], None]

QUIET, FLOOD = "quiet", "flood"
PERIODS = ("alone", "at the limit", "beyond it")
MAX_GROWTH = 0.2
_DEADLINE_MS = 30_000  # no answer may leave a channel out: it would be faster and worth less
_WARM_UP_S = 5.0
# So many that no search waits for a connection of its own client: a p95 of seconds is far above what is bearable.
_QUIET_CONNECTIONS, _FLOOD_CONNECTIONS = 16, 32


@dataclass(frozen=True, slots=True)
class FairnessPlan:
    """The load of one run.

    Attributes:
        profile: its query encoders.
        entries: in the index, for each of the two tenants.
        rounds: of the three periods.
        seconds: of each period.
        limit_per_s: of each tenant.
        times: the rate of the flood, as a multiple of the limit.
        quiet_per_s: searches of the quiet tenant.
        store_uri: a Milvus to use instead of the embedded Lite; its collections are written to.
    """

    profile: str = "reference"
    entries: int = 1_000  # Lite walks its rows: with 20,000 two cores answer three searches in a second
    rounds: int = 5
    seconds: float = 40.0
    limit_per_s: float = 4.0
    times: float = 10.0
    quiet_per_s: float = 2.0  # half of the limit: at random moments it then stays within its burst
    store_uri: str | None = None

    def offered_per_s(self, period: str) -> float:
        """Returns the rate at which the other tenant sends in a period."""
        return dict(zip(PERIODS, (0.0, self.limit_per_s, self.limit_per_s * self.times), strict=True))[period]


@dataclass(frozen=True, slots=True)
class Period:
    """Holds the measurements of one period.

    Attributes:
        quiet, flood: the answers of both tenants; None: the other one sent nothing.
        cpu_s: CPU seconds of the stack by component.
    """

    quiet: PacedResult
    flood: PacedResult | None
    cpu_s: Mapping[Component, float]

    @property
    def p95_ms(self) -> float:
        """The 95th percentile of the quiet tenant's searches, milliseconds."""
        return quantile(self.quiet.took_ms, 0.95)


def bench_fairness(plan: FairnessPlan, say: Reporter) -> dict[str, Any]:
    """Fills an index for two tenants, then measures the periods of each round.

    Returns:
        plain JSON values.

    Raises:
        PenstockError: something did not start.
        UnavailableError: a search of the quiet tenant was refused, partial or failed.
    """
    facts = machine_facts()
    with temporary_folder() as folder:
        settings = _settings(plan, folder)
        keys = {tenant: _new_key(settings, tenant) for tenant in (QUIET, FLOOD)}
        say(f"starting a whole Penstock with profile {plan.profile} in {folder}")
        with running_stack(settings) as stack:
            with opened_index(stack.settings) as store:
                for tenant in keys:
                    say(f"writing {plan.entries} entries of the tenant {tenant}")
                    fill(store, load_profile(plan.profile), plan.entries, tenant)
            rounds = _measure(plan, stack, keys, say)
    return {"machine": facts, "plan": asdict(plan), **summary(rounds)}


def _settings(plan: FairnessPlan, folder: Path) -> Settings:
    return stack_settings(
        folder,
        profile=plan.profile,
        store_uri=plan.store_uri,
        auth={"mode": "keys"},
        limits={"tenant": {"requests_per_s": plan.limit_per_s}},
        query={
            "port": 0,
            "deadline_ms": _DEADLINE_MS,
            "result_cache_bytes": 0,
            "relevance_floor": 0.0,  # made entries answer no question
        },
    )


def _new_key(settings: Settings, tenant: str) -> str:
    grant = KeyGrant([tenant], [Permission.SEARCH], [DEFAULT_LABEL])
    text, _ = create_key(settings.keys_file, grant, now=datetime.now(UTC), key_id=tenant)
    return text


def _measure(
    plan: FairnessPlan, stack: LocalStack, keys: Mapping[str, str], say: Reporter
) -> list[Mapping[str, Period]]:
    rounds: list[Mapping[str, Period]] = []
    with PacedClient() as quiet, PacedClient() as flood:
        load = _Load(plan, stack, keys, quiet, flood)
        load.period("at the limit", seconds=_WARM_UP_S, seed=-1)
        for number in range(plan.rounds):
            turned = [PERIODS[(number + place) % len(PERIODS)] for place in range(len(PERIODS))]
            rounds.append({name: load.period(name, seconds=plan.seconds, seed=number) for name in turned})
            figures = ", ".join(f"{name} {rounds[-1][name].p95_ms:.0f} ms" for name in PERIODS)
            say(f"round {number + 1}, p95 of the quiet tenant: {figures}")
    return rounds


class _Load:
    """Lets both clients send in periods.

    Args:
        plan: the load.
        stack: what answers.
        keys: of the callers, by tenant.
        quiet, flood: the clients.
    """

    def __init__(
        self, plan: FairnessPlan, stack: LocalStack, keys: Mapping[str, str], quiet: PacedClient, flood: PacedClient
    ) -> None:
        self._plan, self._stack, self._keys = plan, stack, keys
        self._quiet, self._flood = quiet, flood
        self._words = sample_words()
        self._sent = 0  # questions, of both

    def period(self, name: str, *, seconds: float, seed: int) -> Period:
        """Measures one period.

        Raises:
            UnavailableError: a search of the quiet tenant was refused, partial or failed.
        """
        offered_per_s = self._plan.offered_per_s(name)
        time.sleep(self._stack.settings.limits.burst_s)  # buckets are full at the start of each period
        before = self._stack.cpu_s()
        if offered_per_s:
            self._flood.begin(self._order(FLOOD, offered_per_s, _FLOOD_CONNECTIONS, seconds, seed))
        self._quiet.begin(self._order(QUIET, self._plan.quiet_per_s, _QUIET_CONNECTIONS, seconds, seed))
        quiet = self._quiet.result()
        flood = self._flood.result() if offered_per_s else None
        spent = {part: cpu_s - before[part] for part, cpu_s in self._stack.cpu_s().items()}
        if set(quiet.statuses) != {"200"}:
            raise UnavailableError(f"the quiet tenant was answered with {dict(quiet.statuses)}, {name}")
        return Period(quiet, flood, spent)

    def _order(self, tenant: str, per_s: float, connections: int, seconds: float, seed: int) -> PacedOrder:
        first = self._sent
        self._sent += 1_000_000
        return PacedOrder(
            url=self._stack.query_url,
            key=self._keys[tenant],
            per_s=per_s,
            seconds=seconds,
            connections=connections,
            words=self._words,
            seed=seed,
            first=first,
        )


def summary(rounds: Sequence[Mapping[str, Period]]) -> dict[str, Any]:
    """Returns medians over the rounds by period, and the growth of the quiet tenant's p95 in pairs of periods."""
    growths = {
        f"{name} / {base}": [of_round[name].p95_ms / of_round[base].p95_ms - 1 for of_round in rounds]
        for name, base in (("beyond it", "alone"), ("beyond it", "at the limit"), ("at the limit", "alone"))
    }
    return {
        "rows": [_row(name, [of_round[name] for of_round in rounds]) for name in PERIODS],
        "growth": {pair: {"median": median(values), "rounds": values} for pair, values in growths.items()},
        "is_fair": median(growths["beyond it / alone"]) < MAX_GROWTH,
    }


def _row(name: str, periods: Sequence[Period]) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    for period in periods:
        statuses.update({} if period.flood is None else period.flood.statuses)
    clients_s = [period.quiet.cpu_s + (0.0 if period.flood is None else period.flood.cpu_s) for period in periods]
    return {
        "other tenant": name,
        "p50_ms": median([quantile(period.quiet.took_ms, 0.5) for period in periods]),
        "p95_ms": median([period.p95_ms for period in periods]),
        "searches": sum(len(period.quiet.took_ms) for period in periods),
        "answered": statuses.pop("200", 0),
        "refused": statuses.pop("429", 0),
        "failed": sum(statuses.values()),
        "query_cpu_s": median([period.cpu_s[Component.QUERY] for period in periods]),
        "ray_cpu_s": median([period.cpu_s[Component.RAY] for period in periods]),
        "store_cpu_s": median([period.cpu_s[Component.STORE] for period in periods]),
        "clients_cpu_s": median(clients_s),
    }


def main() -> None:
    """Runs the measurement and prints its table. The exit code is 1 where the other tenant was delayed too much."""
    plan = FairnessPlan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default=plan.profile)
    parser.add_argument("--entries", type=int, default=plan.entries, help="of each tenant")
    parser.add_argument("--rounds", type=int, default=plan.rounds)
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of each period")
    parser.add_argument("--limit", type=float, default=plan.limit_per_s, help="searches of a tenant in a second")
    parser.add_argument("--times", type=float, default=plan.times, help="the limit that the flood sends")
    parser.add_argument(
        "--quiet", type=float, default=plan.quiet_per_s, help="searches of the quiet tenant in a second"
    )
    parser.add_argument("--store-uri", help="an empty Milvus to measure with, which is written to")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    figures = bench_fairness(
        FairnessPlan(
            profile=arguments.profile,
            entries=arguments.entries,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            limit_per_s=arguments.limit,
            times=arguments.times,
            quiet_per_s=arguments.quiet,
            store_uri=arguments.store_uri,
        ),
        lambda line: print(line, file=sys.stderr),
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    print_table([{name: _figure(value) for name, value in row.items()} for row in figures["rows"]])
    for pair, growth in figures["growth"].items():
        sys.stdout.write(f"p95, {pair}: {growth['median']:+.0%}\n")
    sys.exit(0 if figures["is_fair"] else 1)


def _figure(value: float | str) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
