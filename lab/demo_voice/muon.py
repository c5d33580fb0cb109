"""Muon for many matrices at once: torch's own takes one after the other, which for a small model costs more time than all the rest of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, as in torch.optim.Muon and Keller Jordan's
_ITERATIONS = 5
_EPSILON = 1e-7


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with orthogonal rows or columns, roughly, of (n, rows, columns); in BF16 on a card."""
    a, b, c = _COEFFICIENTS
    made = matrices.bfloat16() if matrices.is_cuda else matrices
    if upright := matrices.shape[1] > matrices.shape[2]:
        made = made.mT
    made = made / made.norm(dim=(1, 2), keepdim=True).clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = made @ made.mT
        made = torch.baddbmm(made, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), made, beta=a)
    return made.mT if upright else made


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon(nesterov=True, adjust_lr_fn="match_rms_adamw")`, matrices of one shape together, and without waiting for the device.

    Args:
        params: Matrices.
        lr: Learning rate, a tensor on their device.
        weight_decay: Decoupled, as in AdamW.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: torch.Tensor, weight_decay: float = 0.01, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step with the gradients as they are."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, same in shapes.items():
                gradients = [parameter.grad for parameter in same if parameter.grad is not None]
                kept = [self._momentum(parameter) for parameter in same]
                torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(gradients, kept, group["momentum"]))
                change = orthogonal(ahead).to(same[0].dtype) * (group["lr"] * 0.2 * math.sqrt(max(shape)))
                torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(same, list(change.unbind()))

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]  # type: ignore[no-any-return]
