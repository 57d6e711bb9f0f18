"""Describes an adapter: its data, its seeds, its figures by slice, and the figures that the gate reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.errors import UsageError
from penstock.train.gate import GateDecision, GateFigures

SCHEMA = 1
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class AdapterCard:
    """Describes an adapter.

    Over the limit because each line of the card is an attribute.

    Attributes:
        name: by which it is promoted.
        fingerprint: of its transform; empty: the encoder as it is was best, and there is no transform.
        kind, side, lang, field, role: its form, the vectors it maps, its questions, the field they search, the encoder.
        encoder: identity of that encoder in one line.
        data, data_hash: name and hash of the set or the pairs.
        pairs: number that it was fitted to.
        seed: of their choice and of training.
        parameters: what was chosen, and the options of training.
        seconds: of fitting and measuring.
        figures: of the gate's questions.
        test: the same of the split test, if it was requested; the gate never reads it.
        note: such as a collapse; empty: there was nothing.
    """

    name: str
    fingerprint: str
    kind: str
    side: str
    lang: str | None
    field: str
    role: str
    encoder: str
    data: str
    data_hash: str
    pairs: int
    seed: int
    parameters: Mapping[str, Any]
    seconds: float
    figures: GateFigures = dataclasses.field(repr=False)
    test: GateFigures | None = dataclasses.field(default=None, repr=False)
    note: str = ""

    def has_bank_of(self, other: AdapterCard) -> bool:
        """Returns whether both were measured on the same documents: ranks among others cannot be compared."""
        mine, theirs = (card.figures.dimensions.get("modality") for card in (self, other))
        return self.data_hash == other.data_hash and mine == theirs

    def to_json(self, decision: GateDecision) -> bytes:
        """Returns the card as JSON, with the figures by slice and the decision of the gate, for readers."""
        document = {"schema": SCHEMA, **asdict(self)}
        document["slices"] = [asdict(of_slice) for of_slice in decision.slices]
        document["passes"], document["reasons"] = decision.passes, list(decision.reasons)
        return (json.dumps(document, ensure_ascii=False) + "\n").encode()


def parse_card(data: bytes, name: str) -> AdapterCard:
    """Returns the card of a file's content; the decision in it is not read, but made again from the figures.

    Raises:
        UsageError: it is damaged, or of a newer Penstock.
    """
    try:
        document = json.loads(data)
        if int(document.pop("schema")) > SCHEMA:
            raise UsageError(f"the card {name} is of a newer Penstock: update this one")
        for key in ("slices", "passes", "reasons"):
            document.pop(key, None)
        document["figures"] = GateFigures(**document["figures"])
        document["test"] = None if document["test"] is None else GateFigures(**document["test"])
        card = AdapterCard(**document)
    except (ValueError, TypeError, KeyError) as exc:
        raise UsageError(f"the card {name} is damaged ({exc}); train the adapter again") from exc
    sizes = {len(values) for values in (card.figures.ids, card.figures.base, card.figures.adapted)}
    if len(sizes) > 1:
        raise UsageError(f"the card {name} is damaged (its figures are not of the same questions)")
    return card


def card_file(adapter: Path) -> Path:
    """Returns the file of the card of an adapter's file."""
    return adapter.with_suffix(".card.json")
