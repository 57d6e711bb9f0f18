"""Adam, the optimiser of Kingma and Ba (2015), for a few matrices in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penstock.records import Float32

# The usual values of the paper.
_MOMENTS = (0.9, 0.999)
_EPSILON = 1e-8


class Adam:
    """Changes parameters in place, by gradients of the same shapes.

    Args:
        parameters: the arrays that it changes.
        rate: step size.
    """

    def __init__(self, parameters: Sequence[Float32], *, rate: float) -> None:
        self._parameters = parameters
        self._rate = rate
        self._first = [np.zeros_like(parameter) for parameter in parameters]
        self._second = [np.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Float32]) -> None:
        """Moves each parameter against its gradient."""
        self._steps += 1
        of_first, of_second = (1 - moment**self._steps for moment in _MOMENTS)
        for place, gradient in enumerate(gradients):
            self._first[place] += (1 - _MOMENTS[0]) * (gradient - self._first[place])
            self._second[place] += (1 - _MOMENTS[1]) * (gradient**2 - self._second[place])
            direction = (self._first[place] / of_first) / (np.sqrt(self._second[place] / of_second) + _EPSILON)
            np.subtract(self._parameters[place], self._rate * direction, out=self._parameters[place])
