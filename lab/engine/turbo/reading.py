"""From upstream's loaded modules to the flat tensors that turbo computes with; what turbo does not know is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import LabError


class UnsupportedModelError(LabError):
    """Turbo would compute another function than this model."""


class Block(NamedTuple):
    """One DiT block. Weights are (out, in), as in `nn.Linear`; q, k and v are one matrix."""

    qkv_weight: Tensor  # (3 · heads · head size, dim)
    qkv_bias: Tensor
    q_norm: Tensor | None  # (head size,)
    k_norm: Tensor | None
    out_weight: Tensor
    out_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    down_weight: Tensor
    down_bias: Tensor


@dataclass(frozen=True)
class Shape:
    """The sizes and switches that the arithmetic needs."""

    dim: int
    heads: int
    head_dim: int
    rotary_heads: int  # the first so many heads are rotated
    mel: int
    mask_text: bool  # fillers stay zero in the text encoder
    upsample_text: bool  # text tokens are spread over the frames


@dataclass(frozen=True)
class Position:
    """The position convolution of the input embedding: two grouped convolutions over the rows, as modules and as a kernel wants their weights."""

    modules: tuple[nn.Conv1d, nn.Conv1d]
    weights: tuple[Tensor, Tensor]  # (taps, groups, in, out)
    biases: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Flow:
    """A DiT as turbo sees it: the loop's tensors in the model's dtype, and upstream's own modules for what is computed once."""

    shape: Shape
    blocks: tuple[Block, ...]
    wide: int  # mel, rounded up to what matrix products on a card like
    in_x: Tensor  # (dim, wide): the part of the input projection that meets the noise
    in_rest: Tensor  # (dim, mel + text, filled up on a card in half precision): the parts that meet the condition and the text
    in_bias: Tensor
    position: Position
    out_weight: Tensor  # (wide, dim)
    out_bias: Tensor
    inverse_frequencies: Tensor  # (head size / 2,), FP32: in FP16 angles are off by up to 0.44 rad at 1,216 frames
    modulations: tuple[nn.Linear, ...]  # AdaLN, one per block, and the last one
    time_embed: nn.Module
    text_embed: Any

    @property
    def dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        return self.in_x.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.in_x.device


def _refuse(what: str) -> None:
    raise UnsupportedModelError(f"turbo does not know {what}; use sampler=upstream for these weights.")


def exact_gelu(block: Any) -> bool:
    """Whether a ConvNeXt block's activation is the one that turbo computes."""
    return type(block.act).__name__ == "GELU" and block.act.approximate == "none"


def _checked(model: Any) -> Any:
    """The DiT of `model`, if turbo computes the same as it."""
    dit = model.transformer
    kind = type(dit).__name__
    if kind != "DiT":
        _refuse(f"the backbone {kind} (it knows DiT)")
    method = model.odeint_kwargs.get("method", "euler")
    if method != "euler":
        _refuse(f"the solver {method!r} (it knows euler)")
    for block in dit.transformer_blocks:
        name = type(block).__name__
        if name != "DiTBlock":
            _refuse(f"the block {name} (it knows DiTBlock)")
        processor = type(block.attn.processor).__name__
        if processor != "AttnProcessor":
            _refuse(f"the attention {processor} (it knows AttnProcessor)")
        if block.ff.ff[0][1].approximate != "tanh":
            _refuse("an exact GELU in the blocks (it knows the tanh approximation)")
    if not all(exact_gelu(block) for block in getattr(dit.text_embed, "text_blocks", ())):
        _refuse("another activation than an exact GELU in the text encoder")
    if dit.long_skip_connection is not None:
        _refuse("a long skip connection")
    if getattr(dit.rotary_embed, "scale", None) is not None:
        _refuse("rotary embeddings with xpos scales")
    return dit


def _rotary_heads(attention: Any) -> int:
    limit = attention.processor.pe_attn_head
    return int(attention.heads if limit is None else min(limit, attention.heads))


def _block(block: Any) -> Block:
    attention = block.attn
    parts = (attention.to_q, attention.to_k, attention.to_v)
    return Block(
        torch.cat([part.weight for part in parts]).detach(),
        torch.cat([part.bias for part in parts]).detach(),
        None if attention.q_norm is None else attention.q_norm.weight.detach(),
        None if attention.k_norm is None else attention.k_norm.weight.detach(),
        attention.to_out[0].weight.detach(),
        attention.to_out[0].bias.detach(),
        block.ff.ff[0][0].weight.detach(),
        block.ff.ff[0][0].bias.detach(),
        block.ff.ff[2].weight.detach(),
        block.ff.ff[2].bias.detach(),
    )


def _position(layers: Any) -> Position:
    first, _, second, _ = layers
    weights = [
        layer.weight.detach().unflatten(0, (layer.groups, -1)).permute(3, 0, 2, 1).contiguous()  # from (out, in of a group, taps)
        for layer in (first, second)
    ]
    return Position((first, second), (weights[0], weights[1]), (first.bias.detach(), second.bias.detach()))


def _frequencies(dit: Any, head_dim: int, known: Tensor | None) -> Tensor:
    """The rotary frequencies in FP32: those of the checkpoint, if `known`; an FP32 module's own; else by the formula, since a cast has rounded them."""
    buffer: Tensor = dit.rotary_embed.inv_freq
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    formula = (1.0 / (10_000.0**exponents)).to(buffer.device)
    if buffer.shape != formula.shape or not torch.allclose(buffer.float(), formula, rtol=0.01, atol=1e-4):
        _refuse("rotary embeddings with another base than 10,000")
    if known is not None:
        return known.to(device=buffer.device, dtype=torch.float32)
    return buffer.detach() if buffer.dtype == torch.float32 else formula


def read_flow(model: Any, frequencies: Tensor | None = None) -> Flow:
    """The tensors of upstream's `CFM` as turbo uses them.

    Args:
        model: upstream's CFM, on its device, in its dtype.
        frequencies: (head size / 2,) the rotary frequencies of the checkpoint, for a model whose own were rounded when it was cast.

    Raises:
        UnsupportedModelError: the backbone is not a DiT as upstream's configs describe it, or its solver is not Euler's.
    """
    dit = _checked(model)
    attention = dit.transformer_blocks[0].attn
    head_dim = int(attention.to_q.weight.shape[0]) // int(attention.heads)
    mel = int(dit.proj_out.weight.shape[0])
    weight = dit.input_embed.proj.weight.detach()
    wide = -(-mel // 8) * 8 if weight.is_cuda else mel
    fill = wide - mel
    rest = weight[:, mel:]
    fill_rest = -rest.shape[1] % 8 if weight.is_cuda and weight.element_size() == 2 else 0
    text = dit.text_embed
    return Flow(
        shape=Shape(
            dim=int(dit.dim),
            heads=int(attention.heads),
            head_dim=head_dim,
            rotary_heads=_rotary_heads(attention),
            mel=mel,
            mask_text=bool(text.mask_padding),
            upsample_text=bool(text.average_upsampling),
        ),
        blocks=tuple(_block(block) for block in dit.transformer_blocks),
        wide=wide,
        in_x=F.pad(weight[:, :mel], (0, fill)).contiguous(),
        in_rest=F.pad(rest, (0, fill_rest)).contiguous(),
        in_bias=dit.input_embed.proj.bias.detach(),
        position=_position(dit.input_embed.conv_pos_embed.conv1d),
        out_weight=F.pad(dit.proj_out.weight.detach(), (0, 0, 0, fill)),
        out_bias=F.pad(dit.proj_out.bias.detach(), (0, fill)),
        inverse_frequencies=_frequencies(dit, head_dim, frequencies),
        modulations=(*(block.attn_norm.linear for block in dit.transformer_blocks), dit.norm_out.linear),
        time_embed=dit.time_embed,
        text_embed=text,
    )
