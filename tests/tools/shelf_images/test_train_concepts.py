from __future__ import annotations

import numpy as np

from penstock.samples.images import load_concepts
from tools.shelf_images.train_concepts import LOGIT_SPREAD, Drawings, train


def test_the_discriminant_tells_concepts_apart_in_spite_of_noise_that_they_share() -> None:
    random = np.random.default_rng(0)
    means = random.normal(size=(12, 30))
    noise = np.zeros(30)
    noise[:5] = 4.0  # larger than the differences between concepts, and the same for all of them
    draws = (means + random.normal(size=(6, 12, 30)) * (0.2 + noise)).astype(np.float32)
    unseen = (means + random.normal(size=(40, 12, 30)) * (0.2 + noise)).astype(np.float32)
    weight, bias = train(draws)
    right = (unseen @ weight.T + bias).argmax(axis=2) == np.arange(12)
    nearest = ((unseen[:, :, None] - draws.mean(axis=0)) ** 2).sum(axis=3).argmin(axis=2) == np.arange(12)
    assert right.mean() > 0.9
    assert right.mean() > nearest.mean() + 0.2
    spread = (draws.reshape(-1, 30) @ weight.T + bias).std(axis=1).mean()
    np.testing.assert_allclose(spread, LOGIT_SPREAD, rtol=1e-3)


def test_the_same_seed_draws_the_same_images() -> None:
    concepts = load_concepts()[:3]
    for plain in (True, False):
        first, again, other = (Drawings(concepts, 64, seed).draw(range(3), plain=plain) for seed in (1, 1, 2))
        assert first.shape == (3, 64, 64, 3)
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
