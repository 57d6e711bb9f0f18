"""Divides the times of rules, so that a test need not wait for hours to see what a window of hours does."""

from __future__ import annotations

import re
from typing import Final

_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:(?<=\[)|(?<=offset ))(\d+)([smhd])\b")
_WHOLE = re.compile(r"(\d+)([smhd])")


def divided_expression(expression: str, divisor: float) -> str:
    """Returns PromQL whose ranges and offsets are shorter by a divisor.

    Names such as `ratio_rate5m` stay, and so do thresholds, also those in seconds.
    """
    return _DURATION.sub(lambda match: divided(match[0], divisor), expression)


def divided(duration: str, divisor: float) -> str:
    """Returns a duration such as `5m`, shorter by a divisor."""
    match = _WHOLE.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is no duration such as 5m")
    if divisor == 1:
        return duration
    return f"{round(int(match[1]) * _UNIT_MS[match[2]] / divisor)}ms"
