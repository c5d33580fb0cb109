"""What depends on the solver's steps alone: the time grid and the modulation of every layer at every step, computed once in FP32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.engine.turbo.reading import Flow


@dataclass(frozen=True)
class Schedule:
    """The steps of one solver setting.

    `opening` is (steps, 2, dim): shift and 1 + scale of the first block's first norm. `layers` is (steps, depth, 6, dim): for each block the gate of its
    attention, shift and 1 + scale of its second norm, the gate of its feed-forward part, and shift and 1 + scale of the norm that comes next (the last
    block's is the output's). All FP32: they are a few vectors a layer, and what multiplies them is computed in FP32 anyway.
    """

    times: tuple[float, ...]  # steps + 1, from 0 to 1
    widths: Tensor  # (steps,) FP32
    opening: Tensor
    layers: Tensor

    @property
    def steps(self) -> int:
        """How many times the model is asked."""
        return len(self.times) - 1


def time_grid(steps: int, sway: float | None, epss: bool) -> Tensor:
    """Upstream's time grid, (steps + 1,), in FP32 on the CPU: in FP16 its first step is off by up to 19 %."""
    from f5_tts.model.utils import get_epss_timesteps

    grid: Tensor = get_epss_timesteps(steps, device="cpu", dtype=torch.float32) if epss else torch.linspace(0, 1, steps + 1)
    return grid if sway is None else grid + sway * (torch.cos(torch.pi / 2 * grid) - 1 + grid)


def _in_fp32(layer: nn.Linear, value: Tensor) -> Tensor:
    return F.linear(value, layer.weight.float(), layer.bias.float())


def embed_times(time_embed: Any, times: Tensor) -> Tensor:
    """Upstream's time embedding of (n,) times in FP32, whatever dtype its weights have: (n, dim)."""
    hidden = time_embed.time_embed(times)
    first, _, second = time_embed.time_mlp
    return _in_fp32(second, F.silu(_in_fp32(first, hidden)))


def modulations(flow: Flow, times: Tensor) -> tuple[Tensor, Tensor]:
    """`opening` and `layers` of a schedule (see `Schedule`) for (n,) times on the model's device."""
    hidden = F.silu(embed_times(flow.time_embed, times))
    shift, scale, *rest = _in_fp32(flow.modulations[0], hidden).chunk(6, dim=-1)
    opening = torch.stack((shift, 1 + scale), dim=1)
    layers = []
    for layer in flow.modulations[1:-1]:
        gate, shift_mlp, scale_mlp, gate_mlp = rest
        shift, scale, *rest = _in_fp32(layer, hidden).chunk(6, dim=-1)
        layers.append(torch.stack((gate, shift_mlp, 1 + scale_mlp, gate_mlp, shift, 1 + scale), dim=1))
    gate, shift_mlp, scale_mlp, gate_mlp = rest
    scale, shift = _in_fp32(flow.modulations[-1], hidden).chunk(2, dim=-1)
    layers.append(torch.stack((gate, shift_mlp, 1 + scale_mlp, gate_mlp, shift, 1 + scale), dim=1))
    return opening, torch.stack(layers, dim=1)


def make_schedule(flow: Flow, steps: int, sway: float | None, epss: bool) -> Schedule:
    """The schedule of `steps` steps."""
    grid = time_grid(steps, sway, epss)
    with torch.inference_mode():
        opening, layers = modulations(flow, grid[:-1].to(flow.device))
    return Schedule(tuple(grid.tolist()), (grid[1:] - grid[:-1]).to(flow.device), opening, layers)
