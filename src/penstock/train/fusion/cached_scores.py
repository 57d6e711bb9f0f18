"""Scores candidates with the keys and values of assets that were computed for earlier questions: rule 5."""

from __future__ import annotations

import torch

from penstock.records import Float32
from penstock.train.fusion.key_cache import KeyCache
from penstock.train.fusion.training import Questions, TrainedFusion

# An asset takes 5 kB, two times 10 tokens of 64 numbers: 51 MB in all.
CAPACITY = 10_000


class CachedScores:
    """Scores of a trained fusion, equal to those without a cache. Not thread-safe.

    Args:
        fusion: trained.
        cache: by number of the asset.
    """

    def __init__(
        self, fusion: TrainedFusion, cache: KeyCache[int, tuple[torch.Tensor, torch.Tensor]] | None = None
    ) -> None:
        self._fusion = fusion
        self.cache = cache or KeyCache(CAPACITY)

    def scores(self, questions: Questions) -> Float32:
        """Returns float32[n, m], -inf for padding, see `TrainedFusion.scores`."""
        flat = questions.assets.ravel().tolist()
        kept = self.cache.get(flat, self._fusion.keys_and_values)
        shape = (*questions.assets.shape, *kept[0][0].shape)
        keys, values = (torch.stack([pair[side] for pair in kept]).view(shape) for side in (0, 1))
        return self._fusion.scores(questions, known=(keys, values))
