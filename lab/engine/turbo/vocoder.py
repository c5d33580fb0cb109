"""Vocos for padded rows: the backbone in its own dtype, the Fourier head in FP32, and an overlap-add that asks the host nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.engine.turbo.convnext import PLAIN, Parts
from lab.engine.turbo.reading import UnsupportedModelError, exact_gelu


@dataclass(frozen=True)
class Vocoder:
    """Upstream's Vocos, with what its decoding needs."""

    backbone: Any
    head: Any
    size: int  # of the Fourier transform
    hop: int
    window: Tensor  # (size,) FP32

    @property
    def dtype(self) -> torch.dtype:
        """What the backbone computes in."""
        weight: Tensor = self.backbone.embed.weight
        return weight.dtype


def read_vocoder(vocos: Any) -> Vocoder:
    """What turbo needs of `vocos`.

    Raises:
        UnsupportedModelError: it is no Vocos with a plain ConvNeXt backbone and a centred inverse Fourier transform.
    """
    backbone, head = vocos.backbone, vocos.head
    istft = getattr(head, "istft", None)
    if type(backbone).__name__ != "VocosBackbone" or backbone.adanorm or not all(exact_gelu(block) for block in backbone.convnext):
        raise UnsupportedModelError(f"turbo does not know the vocoder's backbone {type(backbone).__name__}; use sampler=upstream.")
    if istft is None or istft.padding != "center" or istft.win_length != istft.n_fft or istft.n_fft % (2 * istft.hop_length):
        raise UnsupportedModelError(f"turbo does not know the vocoder's head {type(head).__name__} as it is set up; use sampler=upstream.")
    return Vocoder(backbone, head, int(istft.n_fft), int(istft.hop_length), istft.window.detach().float())


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Sum of (batch, rows, size) frames that begin `hop` samples after each other: (batch, (rows - 1) · hop + size)."""
    rows, size = frames.shape[1:]
    pieces = frames.unflatten(-1, (size // hop, hop))
    total = sum(F.pad(pieces[:, :, i], (0, 0, i, size // hop - 1 - i)) for i in range(size // hop))
    assert isinstance(total, Tensor)
    return total.flatten(1)[:, : (rows - 1) * hop + size]


def decode(vocoder: Vocoder, mel: Tensor, valid: Tensor | None, parts: Parts = PLAIN) -> Tensor:
    """Audio, (batch, (rows - 1) · hop) FP32, of a mel, (batch, rows, mel).

    `valid`, (batch, rows, 1): which rows belong to each mel, the first ones; samples behind (its rows - 1) · hop mean nothing. None: all do.
    """
    backbone, head = vocoder.backbone, vocoder.head
    mel = mel.to(vocoder.dtype)
    x = backbone.embed((mel if valid is None else torch.where(valid, mel, 0.0)).transpose(1, 2))
    x = backbone.norm(x.transpose(1, 2))
    for block in backbone.convnext:
        # what convolutions see beyond the end is zero, as at the end of a tensor
        x = parts.contracted(parts.expanded(parts.depthwise(x, block, valid), block.pwconv1), block.pwconv2, block.gamma, x)
    x = backbone.final_layer_norm(x).float()
    magnitude, phase = parts.linear(x, head.out).chunk(2, dim=-1)
    magnitude = torch.clip(torch.exp(magnitude), max=1e2)
    spectrum = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
    frames = torch.fft.irfft(spectrum, vocoder.size, dim=-1) * vocoder.window
    weights = vocoder.window.square().expand(1, mel.shape[1], -1)
    if valid is not None:
        frames = torch.where(valid, frames, 0.0)
        weights = torch.where(valid, weights, 0.0)
    edge = vocoder.size // 2
    audio, envelope = _overlapped(frames, vocoder.hop), _overlapped(weights, vocoder.hop)
    return audio[:, edge:-edge] / envelope[:, edge:-edge].clamp(min=1e-11)
