"""The part of a step that has kernels of its own on Hopper cards, with the memory that they need."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lab.engine.turbo import kernels, kernels_attention, kernels_hopper, kernels_hopper_convolution, kernels_hopper_project
from lab.engine.turbo.loop import Functions
from lab.engine.turbo.reading import Block, Position, Shape

HEAD = kernels_hopper.SIZE


class Hopper:
    """For one thread: two calls at a time would write into each other's memory."""

    def __init__(self, device: torch.device) -> None:
        """Allocate what parts of an attention are kept in until they are joined."""
        self._multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
        partial = torch.empty((self._multiprocessors, kernels_hopper.PARTIAL), device=device)
        arrived = torch.zeros(self._multiprocessors, dtype=torch.int32, device=device)  # the kernel leaves zeros behind
        self.memory = (partial, arrived, self._multiprocessors)

    def _suits(self, x: Tensor, shape: Shape) -> bool:
        return kernels_hopper_project.suits(shape, x.shape[0] * x.shape[1], self._multiprocessors)

    def functions(self, functions: Functions, shape: Shape) -> Functions:
        """`functions` with those of this card."""

        def entered(*given: Any) -> Tensor:
            return kernels.entered(*given, ahead=True)

        def positioned(hidden: Tensor, position: Position, *rest: Any) -> tuple[Tensor, Tensor]:
            ours = kernels_hopper_convolution.suits(hidden, position.weights[0])
            convolve = kernels_hopper_convolution.convolved if ours else kernels.convolved
            return kernels.positioned(hidden, position, *rest, ahead=self._suits(hidden, shape), convolve=convolve)

        def residual_last(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
            return kernels.residual(x, *rest, ahead=self._suits(x, shape))

        made: dict[str, Any] = {"entered": entered, "positioned": positioned, "residual_last": residual_last}
        return dataclasses.replace(functions, project=self.project, attention=self.attention, **made)

    def project(self, x: Tensor, block: Block, table: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, in one kernel or in two, whichever is faster for so many rows."""
        if self._suits(x, shape):
            return kernels_hopper_project.project(x, block, table, shape, self._multiprocessors)
        return kernels_attention.project(x, block, table, shape)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax attention over the first `lengths` rows of each sequence, by the kernel that is faster for so many."""
        if not kernels_hopper.suits(query, self._multiprocessors):
            return kernels_attention.attention(query, key, value, lengths, mask)
        return kernels_hopper.attend(query, key, value, lengths, *self.memory)
