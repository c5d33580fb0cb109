"""Triton kernels for the vocoder in FP32: products as sums of FP16 ones on tensor cores, and what stands around the Fourier transform.

A number a of such a product goes as two in FP16: high, which is s · a rounded, and low, which is 2048 times what that left. Three of the four products
of pairs are added up in FP32; the fourth is below 2^-24 of the first. s is a power of two for each tensor that brings the largest number it can hold to
between 2^14 and 2^15: what leaves a layer norm is bounded by its weights, and what leaves the layer behind it by those and its own, so nothing can
overflow, whatever the sound. High and low together are off by 2^-23 of a, or by 2^-50 of that bound where that is more (FP16 goes down to 2^-24, so low
is rounded by up to 2^-25, of which each counts for 1/2048). A mel, which nothing bounds, goes as it is, with s = 1: its numbers are logarithms, about
-11.5 to 6, exact to 2^-23 of each and 2^-36; up to 65 504 has room, and what is beyond that comes out as no number, not as a wrong one.

Tensor cores truncate where they add up: over 1536 numbers they were off by 1.9e-6, where torch's FP32 is by 5.0e-7. So the product of the high numbers
of each step is added to the others' in FP32 outside of them: 1.6e-7.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lab.engine.turbo import convnext, kernels_convnext
from lab.engine.turbo.kernels_convnext import gelu, split

Tile = tuple[int, int, int, int, int]  # rows and columns of a part of a product, how deep one of its steps is, warps, steps on their way
# The first one is the fastest while all its parts find room at once on a card's multiprocessors; see `chosen`.
UP: tuple[Tile, ...] = ((64, 64, 64, 4, 2), (128, 128, 64, 8, 3))
DOWN: tuple[Tile, ...] = ((64, 64, 128, 4, 3), (64, 64, 64, 4, 3))
HEAD: tuple[Tile, ...] = ((64, 64, 64, 4, 3),)
SMALL: Tile = (64, 64, 32, 4, 2)  # for cards that cannot hold the others
_LENGTHS = ("rows", "total")


class Layer(NamedTuple):
    """A linear layer, ready for products of pairs."""

    pairs: Tensor  # (2, out, in) FP16: its weight
    before: float  # by how much the pairs that come in have to be larger than what they stand for
    behind: float  # what undoes that, and the same of the weight


def _scale(most: float) -> float:
    """The power of two that brings `most` to between 2^14 and 2^15."""
    return 2.0 ** (15 - math.frexp(max(most, 2.0**-30))[1])


def _layer(weight: Tensor, before: float) -> Layer:
    """The FP64 `weight`, (out, in), for what comes in `before` times as large."""
    scale = _scale(float(weight.abs().max()))
    high = (weight * scale).half()
    return Layer(torch.stack((high, ((weight * scale - high) * 2048).half())), before, 1 / (before * scale))


def ready(made: dict[Any, tuple[Layer, ...]], norm: Any, *layers: Any) -> tuple[Layer, ...]:
    """`layers` one behind the other, with GELU between them, behind `norm`: from `made`, or made at first use, which the host waits for."""
    if norm in made:
        return made[norm]
    factor, offset = norm.weight.detach().double().abs(), norm.bias.detach().double().abs()
    # no normalised number is larger than the root of how many there are, and neither is the length of them all
    root = math.sqrt(factor.numel())
    most, length = float((factor * root + offset).max()), float(factor.max() * root + offset.norm())
    found = []
    for layer in layers:
        weight = layer.weight.detach().double()
        found.append(_layer(weight, _scale(most)))
        each = weight.norm(dim=1) * length + layer.bias.detach().double().abs()
        most, length = float(each.max()), float(each.norm())
    made[norm] = tuple(found)
    return made[norm]


@triton.jit(do_not_specialize=_LENGTHS)
def _product_kernel(
    x,
    weight,
    bias,
    gamma,
    residual,
    out,
    behind,
    onward,
    total,
    inside: tl.constexpr,
    span: tl.constexpr,
    outside: tl.constexpr,
    paired: tl.constexpr,
    scaled: tl.constexpr,
    joined: tl.constexpr,
    apart: tl.constexpr,
    high: tl.constexpr,
    wide: tl.constexpr,
    deep: tl.constexpr,
):
    """A tile of the product of pairs, (total, inside) by (outside, inside)ᵀ, and what comes behind it.

    Everything but the vectors and `residual` is described; `span`: how much of `inside` is one row of `x`, behind which comes the next, as a convolution
    has it; `paired`: GELU of it, times `onward`, as pairs, else in FP32.
    """
    first, across = tl.program_id(1) * high, tl.program_id(0) * wide
    large = tl.zeros((high, wide), dtype=tl.float32)
    left = tl.zeros((high, wide), dtype=tl.float32)
    right = tl.zeros((high, wide), dtype=tl.float32)
    for step in range(0, inside, deep):
        row, column = first, step
        if span != inside:
            row, column = first + step // span, step % span
        x_high = tl.reshape(x.load([0, row, column]), (high, deep))
        x_low = tl.reshape(x.load([1, row, column]), (high, deep))
        weight_high = tl.reshape(weight.load([0, across, step]), (wide, deep)).T
        weight_low = tl.reshape(weight.load([1, across, step]), (wide, deep)).T
        part = tl.dot(x_high, weight_high)
        # the only wait of a step is here: the next two run on, beneath the sum and into the next step
        right = tl.dot(x_high, weight_low, right)
        if apart:
            left = tl.dot(x_low, weight_high, left)
        else:  # a wait more, where registers are too few for a sum more
            right = tl.dot(x_low, weight_high, right)
        large += part * behind  # a power of two, without which the compiler would leave the sum to the tensor cores
    sum = large + (left + right) * (behind / 2048)
    row, lane = first + tl.arange(0, high), across + tl.arange(0, wide)
    sum += tl.load(bias + lane, mask=lane < outside, other=0.0)[None]
    if paired:
        upper, lower = split(gelu(sum), onward)
        out.store([0, first, across], tl.reshape(upper, (1, high, wide)))
        out.store([1, first, across], tl.reshape(lower, (1, high, wide)))
    else:
        kept = (row < total)[:, None] & (lane < outside)[None]
        place = row[:, None] * outside + lane[None]
        if scaled:
            sum *= tl.load(gamma + lane, mask=lane < outside, other=0.0)[None]
        if joined:
            sum += tl.load(residual + place, mask=kept, other=0.0)
        tl.store(out + place, sum, mask=kept)


def chosen(tiles: tuple[Tile, ...], rows: int, columns: int, multiprocessors: int, room: int) -> Tile:
    """The tile that brings a product about in the fewest rounds of parts that `multiprocessors` with `room` bytes each hold at once: the first such.

    On an H200, 512 -> 1536: 12.8 µs against 15.3 for 960 rows, one round each; 22.4 against 16.8 for 1408, two against one; 24.1 against 29.1 for 2048,
    two each. 1536 -> 512: 11.9 against 13.2, 21.8 against 19.1 and 23.3 against 22.0 (all before sums were rounded in FP32).
    """
    rounds = {}
    for tile in tiles:
        high, wide, deep, _, stages = tile
        at_once = room // (stages * (high + wide) * deep * 4 + 2048) * multiprocessors  # what barriers and the driver take is in the 2048
        if at_once:
            rounds[tile] = -(-triton.cdiv(rows, high) * triton.cdiv(columns, wide) // at_once)
    return min(rounds, key=lambda tile: rounds[tile]) if rounds else SMALL


def _held(tiles: tuple[Tile, ...], rows: int, columns: int, device: torch.device) -> Tile:
    if device.type != "cuda":
        return tiles[0]
    card = torch.cuda.get_device_properties(device)
    return chosen(tiles, rows, columns, card.multi_processor_count, card.shared_memory_per_multiprocessor)


def product(
    x: Tensor,
    layer: Layer,
    bias: Tensor,
    tiles: tuple[Tile, ...],
    *,
    gamma: Tensor | None = None,
    residual: Tensor | None = None,
    onward: float | None = None,
    taps: int = 1,
) -> Tensor:
    """A linear layer of pairs, (2, batch, rows, in), in FP32, times `gamma`, plus `residual`; or GELU of it as pairs of `onward` times that.

    With `taps` a row of it is of so many rows of the one sequence there is, and the last taps - 1 of these have none of their own.
    """
    _, outside, inside = layer.pairs.shape
    batch, rows = x.shape[1], x.shape[2] - taps + 1
    total = batch * rows
    high, wide, deep, warps, stages = _held(tiles, total, outside, x.device)

    def described(pairs: Tensor, down: int, along: int) -> TensorDescriptor:
        pairs = pairs.flatten(1, -2)
        return TensorDescriptor(pairs, list(pairs.shape), list(pairs.stride()), [1, down, along])

    paired = onward is not None
    lead, dtype = ((2,), torch.float16) if paired else ((), torch.float32)
    out = torch.empty((*lead, batch, rows, outside), device=x.device, dtype=dtype)
    tensors = (
        described(x, high, deep),
        described(layer.pairs, wide, deep),
        bias,
        gamma,
        residual,
        described(out, high, wide) if paired else out,
    )
    apart = high * wide <= 1024 * warps
    sizes = (total, inside, inside // taps, outside, paired, gamma is not None, residual is not None, apart, high, wide, deep)
    grid = (triton.cdiv(outside, wide), triton.cdiv(total, high))
    _product_kernel[grid](*tensors, layer.behind, onward, *sizes, num_warps=warps, num_stages=stages)
    return out


def embedded(x: Tensor, layer: Any, valid: Tensor | None, made: dict[Any, Any]) -> Tensor:
    """A convolution over rows, as a product."""
    (taps,) = layer.kernel_size
    plain = (layer.stride, layer.dilation, layer.groups, layer.padding_mode) == ((1,), (1,), 1, "zeros") and layer.padding == (taps // 2,)
    if x.dtype != torch.float32 or not plain or not taps % 2 or layer.bias is None:
        return convnext.embedded(x, layer, valid, made)
    batch, rows, dim = x.shape
    outside, edge = layer.out_channels, taps // 2
    if layer not in made:
        # whole steps for each tap: what `x` does not have there is read as zeros
        weight = F.pad(layer.weight.detach().double().transpose(1, 2), (0, -dim % 128))
        made[layer] = (_layer(weight.flatten(1), 1.0),)
    # descriptors want rows of whole 16 bytes
    pairs = kernels_convnext.spread(x, valid, edge, triton.cdiv(dim, 8) * 8)
    found = product(pairs, made[layer][0], layer.bias, DOWN, taps=taps)
    # all sequences lie there as one: what belongs to two neighbours is left out
    return found.as_strided((batch, rows, outside), ((rows + 2 * edge) * outside, outside, 1))


def whole(x: Tensor, block: Any, kept: Tensor | None, made: dict[Any, Any]) -> Tensor:
    """A block of the vocoder."""
    up, down = block.pwconv1, block.pwconv2
    # descriptors want rows of whole 16 bytes
    if x.dtype != torch.float32 or not kernels_convnext.suits(block, x.shape[-1]) or up.in_features % 8 or up.out_features % 8:
        return convnext.contracted(convnext.expanded(kernels_convnext.depthwise(x, block, kept), up), down, block.gamma, x)
    first, second = ready(made, block.norm, up, down)
    x = x.contiguous()
    hidden = product(kernels_convnext.depthwise(x, block, kept, first.before), first, up.bias, UP, onward=second.before)
    return product(hidden, second, down.bias, DOWN, gamma=block.gamma, residual=x)


def headed(x: Tensor, norm: Any, layer: Any, made: dict[Any, Any]) -> Tensor:
    """A linear layer, in FP32, of a layer norm in the dtype of `x`."""
    dim = x.shape[-1]
    if dim % 8 or layer.weight.dtype != torch.float32:
        return convnext.headed(x, norm, layer, made)
    (ended,) = ready(made, norm, layer)
    return product(kernels_convnext.normed_pairs(x, norm, ended.before), ended, layer.bias, HEAD)


@triton.jit(do_not_specialize=_LENGTHS)
def _spectrum_kernel(found, out, total, bins: tl.constexpr, block: tl.constexpr):
    """`block` complex numbers, real and imaginary parts by turns: a row of `found` is their magnitudes' logarithms, then their phases."""
    number = tl.program_id(0) * block + tl.arange(0, block)
    place = number // bins * (2 * bins) + number % bins
    magnitude = tl.exp(tl.load(found + place, mask=number < total, other=0.0))
    magnitude = tl.where(magnitude > 100.0, 100.0, magnitude)  # not the minimum, which might hide that it is no number
    phase = tl.load(found + place + bins, mask=number < total, other=0.0)
    parts = tl.program_id(0) * (2 * block) + tl.arange(0, 2 * block)
    tl.store(out + parts, tl.interleave(magnitude * tl.cos(phase), magnitude * tl.sin(phase)), mask=parts < 2 * total)


@triton.jit(do_not_specialize=_LENGTHS)
def _overlapped_kernel(frames, window, valid, out, rows, size: tl.constexpr, hop: tl.constexpr, masked: tl.constexpr, block: tl.constexpr):
    """`block` samples of one sequence: what frames have there, in the window, against the window's squares, of `valid` frames alone."""
    line = tl.program_id(1)
    number = tl.program_id(0) * block + tl.arange(0, block)
    inside = number < (rows - 1) * hop
    place = number + size // 2
    total = tl.zeros((block,), dtype=tl.float32)
    weight = tl.zeros((block,), dtype=tl.float32)
    for i in tl.static_range(size // hop):
        frame = place // hop - i
        seen = inside & (frame >= 0) & (frame < rows)
        if masked:
            seen = seen & (tl.load(valid + line * rows + frame, mask=seen, other=0) != 0)
        step = place % hop + i * hop
        factor = tl.load(window + step, mask=seen, other=0.0)
        # the transform leaves its division by `size` out
        total += tl.load(frames + (line * rows + frame) * size + step, mask=seen, other=0.0) * (1 / size) * factor
        weight += factor * factor
    tl.store(out + line * (rows - 1) * hop + number, total / tl.maximum(weight, 1e-11), mask=inside)


def sounded(found: Tensor, window: Tensor, hop: int, valid: Tensor | None) -> Tensor:
    """Audio of logarithms of magnitudes and phases of the rows that are `valid`."""
    batch, rows, _ = found.shape
    size = len(window)
    bins, block = size // 2 + 1, 512
    spectrum = torch.empty((batch, rows, bins), device=found.device, dtype=torch.complex64)
    total = spectrum.numel()
    _spectrum_kernel[(triton.cdiv(total, block),)](found.contiguous(), torch.view_as_real(spectrum), total, bins, block, num_warps=4)
    frames = torch.fft.irfft(spectrum, size, dim=-1, norm="forward")
    out = torch.empty((batch, (rows - 1) * hop), device=found.device)
    grid = (triton.cdiv(out.shape[1], block), batch)
    _overlapped_kernel[grid](frames, window, valid, out, rows, size, hop, valid is not None, block, num_warps=4)
    return out
