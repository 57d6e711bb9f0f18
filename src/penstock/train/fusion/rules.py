"""The seven rules of cross-attention, as switches. A rule that is off is the identity of its part.

1 bias            a learnt number for each kind of token and head is added to the scores of attention
2 gate            sigmoid(W(v + t) + b) of each asset decides between the cosines of its images and of its text
3 levels          whole asset, passage and entry count 0.6, 0.9 and 1.0 at first, learnt
4 positions       sinusoids and learnt positions are added to the keys; all heads share them
5 cache           keys and values of assets are kept (least recently used, with an age); changes the time alone
6 supervision     attention is pulled to the token nearest to the question: softmax form, temperature 0.1
7 regularisation  a tenth of the attention is dropped while training, and labels are smoothed by a tenth
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

LEVEL_WEIGHTS = (0.6, 0.9, 1.0)
"""The weights of the whole asset, of a passage, of an entry such as an image."""
SUPERVISION_TEMPERATURE = 0.1
DROPOUT = LABEL_SMOOTHING = 0.1
BOTTLENECK_OF_PAIR: Mapping[tuple[str, str], float] = {
    ("image", "text"): 0.45,
    ("audio", "text"): 0.6,
    ("audio", "video"): 0.7,
}
"""β of the information bottleneck: the middle of the range that is recommended for each pair of modalities."""


@dataclass(frozen=True, slots=True)
class AttentionRules:
    """Switches of the seven rules."""

    bias: bool = True
    gate: bool = True
    levels: bool = True
    positions: bool = True
    cache: bool = True
    supervision: bool = True
    regularisation: bool = True

    @classmethod
    def none(cls) -> AttentionRules:
        """Returns attention without any rule."""
        return cls(**{rule.name: False for rule in fields(cls)})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Returns the names of the rules, in their order."""
        return tuple(rule.name for rule in fields(cls))

    def without(self, name: str) -> AttentionRules:
        """Returns these rules without one."""
        return replace(self, **{name: False})

    @classmethod
    def only(cls, name: str) -> AttentionRules:
        """Returns one rule alone."""
        return replace(cls.none(), **{name: True})


def ablation() -> Iterator[tuple[str, AttentionRules]]:
    """Yields all rules, all but each, each alone, and none, with what a table calls them."""
    yield "all seven rules", AttentionRules()
    for number, name in enumerate(AttentionRules.names(), 1):
        yield f"− {number} {name}", AttentionRules().without(name)
    for number, name in enumerate(AttentionRules.names(), 1):
        yield f"{number} {name} alone", AttentionRules.only(name)
    yield "none of the rules", AttentionRules.none()
