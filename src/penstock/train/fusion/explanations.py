"""Decides whether weights of attention explain a score: only if masking proves it.

A weight is how much of a token was read, not that the score depends on it (Jain and Wallace, 2019). So for each
question the token with the largest weight is masked, and a random other one: where the first changes the score more in
at least 80 of 100 cases, weights may be shown with a hit, else they are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from penstock.train.fusion.training import Questions, TrainedFusion

EXPLAINS_FROM = 0.8


@dataclass(frozen=True, slots=True)
class MaskingTest:
    """The result of masking.

    Attributes:
        share: of the cases in which the token with the largest weight mattered more.
        cases: assets with at least two tokens that could be masked.
    """

    share: float
    cases: int

    @property
    def explains(self) -> bool:
        """Returns whether weights may be shown as an explanation."""
        return self.cases > 0 and self.share >= EXPLAINS_FROM


@torch.no_grad()
def masking_test(fusion: TrainedFusion, questions: Questions, *, seed: int) -> MaskingTest:
    """Masks tokens of the best candidate of each question.

    Args:
        fusion: trained.
        questions: those of test.
        seed: of the random tokens.
    """
    scores = fusion.scores(questions)
    places = np.arange(len(questions.rows))
    best = Questions(questions.rows, questions.assets[places, scores.argmax(axis=1)][:, np.newaxis])
    scored = fusion.forward(best)
    weights = scored.attention[:, 0].mean(dim=1).numpy()
    present = fusion.present(best.assets[:, 0])
    rng = np.random.default_rng(seed)
    usable = present.sum(axis=1) >= 2
    weights = np.where(present, weights, -1.0)
    top = weights.argmax(axis=1)
    chance = rng.random(weights.shape)
    chance[places, top] = -1.0
    other = np.where(present, chance, -1.0).argmax(axis=1)
    changes = [np.abs(_masked(fusion, best, token) - scored.scores[:, 0].numpy()) for token in (top, other)]
    more = (changes[0] > changes[1])[usable]
    return MaskingTest(float(more.mean()) if len(more) else 0.0, int(usable.sum()))


def _masked(fusion: TrainedFusion, best: Questions, token: np.ndarray) -> np.ndarray:
    """Returns the scores, float32[n], with one token of each asset hidden from attention."""
    hidden = torch.zeros(len(token), 1, fusion.model.shape.tokens, dtype=torch.bool)
    hidden[torch.arange(len(token)), 0, torch.from_numpy(token)] = True
    return np.asarray(fusion.forward(best, hidden).scores[:, 0].numpy())
