"""Lets drivers race for one lease, in orders that seeds give: one wins, and the next takes over when it dies."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from penstock.errors import LeaseHeldError
from penstock.ingest.lease import CONFIRM_INTERVAL_S
from tests.ingest.lease_race import Race
from tests.ingest.lease_world import TIMEOUT_S, LeaseWorld

_RACES = 20
_TAKEOVER_S = 30.0
_LIVES_S = 25.0


class Competitor:
    """A driver that takes the lease, keeps it for a while and dies; or is refused, and comes back as a standby."""

    def __init__(self, name: str, world: LeaseWorld, race: Race) -> None:
        self.name = name
        self.refusal: LeaseHeldError | None = None
        self.began_s = self.ended_s = 0.0
        self._world = world
        self._race = race
        self._driver = world.driver(name)

    def run(self) -> None:
        try:
            self._world.acquire(self._driver)
        except LeaseHeldError as exc:
            self.refusal = exc
            self._driver = self._world.driver(f"{self.name}-again")
            self._world.acquire(self._driver, wait=True)
        self.began_s = self._world.now_s
        while self._world.now_s < self.began_s + _LIVES_S:
            self._world.turn_and_deliver(self._driver)
            assert self._driver.holds, f"{self.name} lost its lease"
            self._race.sleep(CONFIRM_INTERVAL_S)
        self.ended_s = self._world.now_s


def one_holder(world: LeaseWorld) -> Callable[[], None]:
    """Returns the check that the epochs rise, and that only writers of the newest may write."""

    def check() -> None:
        epochs = world.epochs
        assert epochs == sorted(set(epochs)), f"epochs do not rise: {epochs}"
        assert {guard.epoch for guard in world.writing()} <= set(epochs[-1:]), "a former driver may still write"

    return check


@pytest.mark.parametrize("seed", range(_RACES))
def test_of_two_drivers_that_start_together_one_wins_and_the_other_takes_over_when_it_dies(seed: int) -> None:
    world = LeaseWorld()
    race = Race(world, seed, max_s=300, check=one_holder(world))
    competitors = [Competitor(name, world, race) for name in ("left", "right")]
    race.run({competitor.name: competitor.run for competitor in competitors})
    winner, loser = sorted(competitors, key=lambda competitor: competitor.began_s)
    assert winner.refusal is None
    assert loser.refusal is not None
    assert f" on {winner.name}, since " in str(loser.refusal)
    assert 0 < loser.began_s - winner.ended_s < _TAKEOVER_S
    assert loser.began_s - winner.ended_s < 2 * TIMEOUT_S


@pytest.mark.parametrize("seed", range(_RACES))
def test_of_three_standbys_one_at_a_time_takes_over(seed: int) -> None:
    world = LeaseWorld()
    race = Race(world, seed, max_s=600, check=one_holder(world))
    competitors = [Competitor(name, world, race) for name in ("a", "b", "c", "d")]
    race.run({competitor.name: competitor.run for competitor in competitors})
    order = sorted(competitors, key=lambda competitor: competitor.began_s)
    gaps_s = [later.began_s - earlier.ended_s for earlier, later in pairwise(order)]
    assert all(0 < gap_s < _TAKEOVER_S for gap_s in gaps_s), gaps_s
