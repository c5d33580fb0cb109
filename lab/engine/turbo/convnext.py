"""The parts of a ConvNeXt block, as the text encoder (V2) and the vocoder (V1) use them, on (batch, rows, dim)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise(x: Tensor, block: Any, kept: Tensor | None) -> Tensor:
    """The block's convolution over rows and its norm; rows that are not `kept`, (batch, rows, 1), count as zeros, as beyond the ends."""
    x = x if kept is None else torch.where(kept, x, 0.0)
    found: Tensor = block.norm(block.dwconv(x.transpose(1, 2)).transpose(1, 2))
    return found


def responded(x: Tensor, grn: Any, valid: Tensor | None) -> Tensor:
    """GELU and global response normalisation over the rows that are `valid`; the others mean nothing afterwards."""
    x = F.gelu(x)
    found: Tensor = grn(x if valid is None else torch.where(valid, x, 0.0))
    return found


def expanded(x: Tensor, layer: Any) -> Tensor:
    """GELU of a linear layer."""
    return F.gelu(F.linear(x, layer.weight, layer.bias))


def contracted(x: Tensor, layer: Any, gamma: Tensor | None, residual: Tensor) -> Tensor:
    """`residual` plus `gamma` times a linear layer."""
    change = F.linear(x, layer.weight, layer.bias)
    return residual + (change if gamma is None else gamma * change)


def linear(x: Tensor, layer: Any) -> Tensor:
    """A linear layer."""
    return F.linear(x, layer.weight, layer.bias)


@dataclass(frozen=True)
class Parts:
    """These functions, or kernels that do the same."""

    depthwise: Callable[..., Tensor] = depthwise
    responded: Callable[..., Tensor] = responded
    expanded: Callable[..., Tensor] = expanded
    contracted: Callable[..., Tensor] = contracted
    linear: Callable[..., Tensor] = linear


PLAIN = Parts()
