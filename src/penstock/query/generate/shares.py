"""Divides room between parts that need it."""

from __future__ import annotations

from collections.abc import Sequence

_ROUNDING = 1e-9  # weights such as 0.1 are no exact numbers


def divide(needs: Sequence[int], weights: Sequence[float], room: int) -> list[int]:
    """Returns the room of each part, by its weight and at most its need.

    What a part does not need the others get.

    Args:
        needs: of the parts.
        weights: of the parts; 0: it gets nothing.
        room: of all together.
    """
    shares = [0] * len(needs)
    waiting = {part for part, need in enumerate(needs) if need > 0 and weights[part] > 0}
    while waiting:
        weight = sum(weights[part] for part in waiting)
        fair = {part: int(room * weights[part] / weight + _ROUNDING) for part in waiting}
        served = {part for part in waiting if needs[part] <= fair[part]}
        if not served:
            for part in waiting:
                shares[part] = fair[part]
            break
        for part in served:
            shares[part] = needs[part]
            room -= needs[part]
        waiting -= served
    return shares
