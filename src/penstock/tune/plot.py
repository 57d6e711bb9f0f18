"""Draws recall against time as an SVG: one colour for each type of index, a line through the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from penstock.tune.choice import IndexCandidate, pareto_front

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 40, 60
# Colours that people who confuse red and green can distinguish (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")


def draw(tried: Sequence[IndexCandidate], target_recall: float, chosen: IndexCandidate | None, *, title: str) -> str:
    """Returns an SVG: the recall of the worst direction (upward) against the median search (rightward, logarithmic).

    Args:
        tried: at least one candidate.
        target_recall: drawn as a line.
        chosen: drawn as a ring; None: none met the target.
        title: stands above.
    """
    scale = _Scale(tried, target_recall)
    kinds = list(dict.fromkeys(candidate.index.type for candidate in tried))
    colour = {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(kinds)}
    parts = [*_frame(scale, title), *_target(scale, target_recall)]
    front = " ".join(f"{scale.x(point.cost_ms):.1f},{scale.y(point.least_recall):.1f}" for point in pareto_front(tried))
    parts.append(f'<polyline points="{front}" fill="none" stroke="#555" stroke-width="1"/>')
    for candidate in tried:
        x, y = scale.x(candidate.cost_ms), scale.y(candidate.least_recall)
        label = f"{candidate.name}: recall@10 {candidate.least_recall:.3f}, {candidate.cost_ms:.1f} ms"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour[candidate.index.type]}">'
            f"<title>{escape(label)}</title></circle>"
        )
    if chosen is not None:
        x, y = scale.x(chosen.cost_ms), scale.y(chosen.least_recall)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="#000" stroke-width="2"/>')
        parts.append(_text(_WIDTH - _RIGHT + 16, _HEIGHT - 14, f"○ {chosen.name}", size=10))
    for number, kind in enumerate(kinds):
        y = _TOP + 16 + 20 * number
        parts.append(f'<circle cx="{_WIDTH - _RIGHT + 24}" cy="{y - 4}" r="5" fill="{colour[kind]}"/>')
        parts.append(_text(_WIDTH - _RIGHT + 36, y, kind))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif">\n<title>{escape(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


class _Scale:
    """Maps milliseconds and recall to the plot."""

    def __init__(self, tried: Sequence[IndexCandidate], target_recall: float) -> None:
        times = [max(candidate.cost_ms, 1e-3) for candidate in tried]
        self.low, self.high = math.log10(min(times)) - 0.05, math.log10(max(times)) + 0.05
        least = min(*(candidate.least_recall for candidate in tried), target_recall)
        self.least = max(0.0, math.floor(least * 20 - 0.5) / 20)

    def x(self, time_ms: float) -> float:
        """Returns the horizontal place of a time."""
        share = (math.log10(max(time_ms, 1e-3)) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, recall: float) -> float:
        """Returns the vertical place of a recall."""
        share = (recall - self.least) / (1.0 - self.least)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _frame(scale: _Scale, title: str) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [_text(_LEFT, 22, title, size=14)]
    for step in range(6):
        recall = scale.least + (1 - scale.least) * step / 5
        y = scale.y(recall)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{recall:.2f}", anchor="end"))
    for step in range(5):
        time_ms = 10 ** (scale.low + (scale.high - scale.low) * step / 4)
        parts.append(_text(scale.x(time_ms), bottom + 18, f"{time_ms:.3g}", anchor="middle"))
    parts.append(_text((_LEFT + right) / 2, bottom + 38, "median search of the slowest direction, ms", anchor="middle"))
    parts.append(_text(_LEFT, _TOP - 4, "recall@10 of the worst direction"))
    return parts


def _target(scale: _Scale, target_recall: float) -> list[str]:
    y = scale.y(target_recall)
    ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
    return [
        f'<line {ends} stroke="#d55e00" stroke-dasharray="4 3"/>',
        _text(_WIDTH - _RIGHT + 4, y + 4, f"target {target_recall:g}", size=10),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
