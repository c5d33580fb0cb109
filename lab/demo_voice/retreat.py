"""Going back when a training diverges: to what it was some hundred steps ago, at a lower learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

_WORSE, _SPREADS = 0.3, 8.0  # above the usual loss: so much of it, and so many times its usual distance from that
_FINE = 1.1
_WEIGHT = 0.1  # of a look in what is usual
_LOOKS = 15  # between two copies
_LOWER, _LEAST = 0.6, 0.2  # of the learning rate


class Retreat:
    """Keeps two copies of everything that a training changes, and goes back to the older when the loss is far above the usual, or no number.

    Args:
        changing: Gives the tensors; they stay the same ones.
        factor: What the learning rate is multiplied by so far.
    """

    def __init__(self, changing: Callable[[], Sequence[torch.Tensor]], factor: float = 1.0) -> None:
        self.factor = factor
        self._changing = changing
        self._usual: float | None = None
        self._spread = 0.0
        self._copies: list[list[torch.Tensor]] = []
        self._looks = 0

    def looked(self, loss: float) -> bool:
        """Say what the loss was, at regular intervals; whether it went back."""
        if not math.isfinite(loss) or (self._usual is not None and loss > self._usual + max(_WORSE * self._usual, _SPREADS * self._spread)):
            if not self._copies:
                return False
            with torch.no_grad():
                for value, kept in zip(self._changing(), self._copies[0], strict=True):
                    value.copy_(kept)
            self.factor = max(_LEAST, self.factor * _LOWER)
            self._copies, self._looks = self._copies[:1], 0
            return True
        distance = 0.0 if self._usual is None else loss - self._usual
        self._usual = loss if self._usual is None else self._usual + _WEIGHT * distance
        self._spread += _WEIGHT * (abs(distance) - self._spread)
        self._looks += 1
        if self._looks >= _LOOKS and loss < _FINE * self._usual:
            self._copies = [*self._copies[-1:], [value.detach().clone() for value in self._changing()]]
            self._looks = 0
        return False
