"""Leaves out the windows of sound on which the audio encoder failed, so that their recordings are indexed without."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from penstock.records import Checkpoint, Collection, Decoded, Encoded, PendingEntry

logger = logging.getLogger(__name__)


def without_lost_sounds(decoded: Decoded, encoded: Sequence[Encoded], own: AbstractSet[str]) -> Decoded:
    """Returns the batch without the entries of sound that have no vector; later parts of their assets move up.

    Sound is beside speech and frames: a window that is lost costs itself and not its recording. Every recording has an
    entry of another collection.

    Args:
        decoded: the batch.
        encoded: its embeddings.
        own: ids of the assets that this writer logs; others write the rest of the batch.
    """
    errors = {(batch.encoder, row): error for batch in encoded for row, error in batch.failed}
    if not errors:
        return decoded
    lost: Counter[str] = Counter()  # by asset id
    pending: list[PendingEntry] = []
    for entry in decoded.pending:
        if entry.collection is not Collection.SOUND:
            pending.append(entry)
        elif failures := [errors[encoder, row] for _, encoder, row in entry.vectors if (encoder, row) in errors]:
            lost[entry.event.asset.id] += 1
            if entry.event.asset.id in own:
                asset, start_ms = entry.event.asset, entry.start_ms
                logger.warning("%s is indexed without its sound from %d ms on: %s", asset, start_ms, failures[0])
        else:
            pending.append(replace(entry, part=entry.part - lost[entry.event.asset.id]))
    checkpoints = tuple(_with_fewer_sounds(checkpoint, lost[checkpoint.asset.id]) for checkpoint in decoded.checkpoints)
    return replace(decoded, pending=tuple(pending), checkpoints=checkpoints)


def _with_fewer_sounds(checkpoint: Checkpoint, lost: int) -> Checkpoint:
    counts = Counter(checkpoint.counts)
    counts[Collection.SOUND] -= lost
    return replace(checkpoint, counts=dict(+counts)) if lost else checkpoint
