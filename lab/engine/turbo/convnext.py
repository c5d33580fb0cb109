"""The parts of a ConvNeXt block, as the text encoder (V2) and the vocoder (V1) use them, on (batch, rows, dim), and of the vocoder's Fourier head."""

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


def embedded(x: Tensor, layer: Any, valid: Tensor | None, made: dict[Any, Any]) -> Tensor:
    """A convolution over rows; rows that are not `valid` count as zeros; `made` as for `whole`."""
    x = x if valid is None else torch.where(valid, x, 0.0)
    found: Tensor = layer(x.transpose(1, 2)).transpose(1, 2)
    return found


def whole(x: Tensor, block: Any, kept: Tensor | None, made: dict[Any, Any]) -> Tensor:
    """A block of the vocoder. `made`: what kernels have made of weights, and need again, by the norm before them or by their own layer."""
    return contracted(expanded(depthwise(x, block, kept), block.pwconv1), block.pwconv2, block.gamma, x)


def headed(x: Tensor, norm: Any, layer: Any, made: dict[Any, Any]) -> Tensor:
    """A linear layer, in FP32, of a layer norm in the dtype of `x`; `made` as for `whole`."""
    return F.linear(norm(x).float(), layer.weight, layer.bias)


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Sum of (batch, rows, size) frames that begin `hop` samples after each other: (batch, (rows - 1) · hop + size)."""
    rows, size = frames.shape[1:]
    pieces = frames.unflatten(-1, (size // hop, hop))
    total = sum(F.pad(pieces[:, :, i], (0, 0, i, size // hop - 1 - i)) for i in range(size // hop))
    assert isinstance(total, Tensor)
    return total.flatten(1)[:, : (rows - 1) * hop + size]


def sounded(found: Tensor, window: Tensor, hop: int, valid: Tensor | None) -> Tensor:
    """Audio, (batch, (rows - 1) · hop), of logarithms of magnitudes and phases, (batch, rows, size + 2), of the rows that are `valid`.

    `window`, (size,): what frames are multiplied with before they are added up; the sum is divided by that of its squares.
    """
    magnitude, phase = found.chunk(2, dim=-1)
    magnitude = torch.clip(torch.exp(magnitude), max=1e2)
    spectrum = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
    size = len(window)
    frames = torch.fft.irfft(spectrum, size, dim=-1) * window
    weights = window.square().expand(1, found.shape[1], -1)
    if valid is not None:
        frames = torch.where(valid, frames, 0.0)
        weights = torch.where(valid, weights, 0.0)
    edge = size // 2
    audio, envelope = _overlapped(frames, hop), _overlapped(weights, hop)
    return audio[:, edge:-edge] / envelope[:, edge:-edge].clamp(min=1e-11)


@dataclass(frozen=True)
class Parts:
    """These functions, or kernels that do the same."""

    depthwise: Callable[..., Tensor] = depthwise
    responded: Callable[..., Tensor] = responded
    whole: Callable[..., Tensor] = whole
    headed: Callable[..., Tensor] = headed
    sounded: Callable[..., Tensor] = sounded
    embedded: Callable[..., Tensor] = embedded


PLAIN = Parts()
