from __future__ import annotations

from penstock.broker.base import Partition
from penstock.broker.rebalances import HeldRevocations

FIRST, SECOND = Partition("media.text", 0), Partition("media.text", 1)


def test_a_held_revocation_expires_at_its_deadline() -> None:
    held = HeldRevocations()
    held.add(FIRST, deadline_s=5.0, generation=1)
    held.add(SECOND, deadline_s=9.0, generation=1)
    assert held.expired(4.9) == []
    assert held.expired(5.0) == [FIRST]
    assert held.discard(FIRST)
    assert not held.discard(FIRST)
    assert held.expired(9.0) == [SECOND]


def test_a_revocation_counts_only_in_the_generation_that_revoked() -> None:
    held = HeldRevocations()
    held.add(FIRST, deadline_s=5.0, generation=1)
    held.add(SECOND, deadline_s=5.0, generation=2)
    assert held.any_in(1)
    assert held.any_in(2)
    assert not held.any_in(-1)  # the member was removed from the group
    assert held.outdated(2) == [FIRST]
    held.clear()
    assert not held.any_in(1)
    assert FIRST not in held
