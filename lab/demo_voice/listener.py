"""A second thing to learn beside the flow: which phone is spoken in each frame.

The loss of flow matching is mostly noise, and says little about where in a text a frame belongs. The synthesizers say when they speak which phone, so a block
in the middle of the DiT is asked for it, as REPA (arXiv 2410.06940) and A-DMA (arXiv 2505.19595) ask one for what other models know. It is asked during the
training only: nothing of it is exported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from lab.demo_voice.synthesizers import PHONES

#: Its values in a CFM's state begin like this.
PREFIX = "listener."


class Listener(torch.nn.Module):
    """Names phones from what a block gives: (batch, frames, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.names = torch.nn.Linear(dim, len(PHONES))
        self._heard: torch.Tensor | None = None

    def listen(self, transformer: Any) -> None:
        """To the block in the middle of upstream's DiT, from now on."""
        blocks = transformer.transformer_blocks
        blocks[len(blocks) // 2].register_forward_hook(self._hear)

    def _hear(self, block: torch.nn.Module, given: Any, made: torch.Tensor) -> None:
        self._heard = made

    def loss(self, phones: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of what was heard last, in nats a frame; phones (batch, frames) are indexes of `PHONES`."""
        assert self._heard is not None
        names = self.names(self._heard).float()
        self.forget()
        return F.cross_entropy(names.flatten(0, 1), phones.flatten())

    def forget(self) -> None:
        """Do not keep what was heard last, and with it all that it was made of."""
        self._heard = None
