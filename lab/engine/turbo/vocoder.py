"""Vocos for padded rows: the backbone in its own dtype, the Fourier head in FP32, and an overlap-add that asks the host nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lab.engine.turbo.convnext import PLAIN, Parts
from lab.engine.turbo.reading import UnsupportedModelError, exact_gelu


@dataclass(frozen=True)
class Vocoder:
    """Upstream's Vocos, with what its decoding needs."""

    backbone: Any
    head: Any
    hop: int
    window: Tensor  # (size,) FP32, as long as the Fourier transform
    made: dict[Any, Any] = field(default_factory=dict)  # what kernels have made of the weights

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
    return Vocoder(backbone, head, int(istft.hop_length), istft.window.detach().float())


def decode(vocoder: Vocoder, mel: Tensor, valid: Tensor | None, parts: Parts = PLAIN) -> Tensor:
    """Audio, (batch, (rows - 1) · hop) FP32, of a mel, (batch, rows, mel).

    `valid`, (batch, rows, 1): which rows belong to each mel, the first ones; samples behind (its rows - 1) · hop mean nothing. None: all do.
    """
    backbone, head = vocoder.backbone, vocoder.head
    x = backbone.norm(parts.embedded(mel.to(vocoder.dtype), backbone.embed, valid, vocoder.made))
    for block in backbone.convnext:
        # what convolutions see beyond the end is zero, as at the end of a tensor
        x = parts.whole(x, block, valid, vocoder.made)
    x = parts.headed(x, backbone.final_layer_norm, head.out, vocoder.made)
    return parts.sounded(x, vocoder.window, vocoder.hop, valid)
