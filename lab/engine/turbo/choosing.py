"""Which arithmetic a model is computed with on its device, and why not the fastest where that is so."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from lab.engine.turbo import arithmetic
from lab.engine.turbo.convnext import PLAIN, Parts
from lab.engine.turbo.loop import Functions
from lab.engine.turbo.reading import Flow
from lab.engine.turbo.switches import Switches

_LEFT_OUT = "left out"
_HOPPER = 9  # compute capability


@dataclass(frozen=True)
class Chosen:
    """The functions of a step."""

    functions: Functions
    no_kernels: str  # why they are torch's own; empty where they are the kernels
    parts: Parts = PLAIN  # of ConvNeXt blocks and of the vocoder
    attention: str = "torch"  # whose kernels take it, and why not those for Hopper cards where they do not


def choose(flow: Flow, switches: Switches) -> Chosen:
    """The arithmetic for a model on its device."""
    plain = Functions.of(arithmetic)
    head_dim = flow.shape.head_dim
    if flow.device.type != "cuda":
        return Chosen(plain, "no CUDA device")
    if flow.dtype == torch.float32:
        return Chosen(plain, "FP32 is computed by torch's own functions, which round as upstream's do")
    if "kernels" not in switches:
        return Chosen(plain, _LEFT_OUT)
    if head_dim & (head_dim - 1):
        return Chosen(plain, f"kernels take head sizes that are powers of two, not {head_dim}")
    try:
        from lab.engine.turbo import kernels, kernels_attention, kernels_convnext, kernels_vocoder
    except ImportError as error:
        return Chosen(plain, f"Triton is missing ({error})")
    functions = Functions.of(kernels)
    of_vocoder = (kernels_vocoder.whole, kernels_vocoder.headed, kernels_vocoder.sounded, kernels_vocoder.embedded)
    parts = Parts(kernels_convnext.depthwise, kernels_convnext.responded, *of_vocoder)
    if "attention" not in switches:
        return Chosen(dataclasses.replace(functions, attention=kernels_attention.attention_masked), "", parts)
    made, reason = _hopper(flow, switches)
    if made is None:
        return Chosen(functions, "", parts, f"Triton ({reason})")
    return Chosen(made.functions(functions, flow.shape), "", parts, "Gluon and Triton")


def _hopper(flow: Flow, switches: Switches) -> tuple[Any, str]:
    """The kernels made for Hopper cards, or why they cannot be had."""
    shape = flow.shape
    if "hopper" not in switches:
        return None, _LEFT_OUT
    if torch.cuda.get_device_capability(flow.device)[0] != _HOPPER:
        return None, "the card is no Hopper"
    # Gluon is an experimental part of Triton, which changes from version to version: whether it works is tried
    try:
        from lab.engine.turbo import hopper, kernels_hopper, kernels_hopper_convolution, kernels_hopper_project

        if shape.head_dim != hopper.HEAD:
            return None, f"Gluon's takes heads of {hopper.HEAD}, not {shape.head_dim}"
        made = hopper.Hopper(flow.device)
        x = torch.zeros((1, 1, shape.dim), device=flow.device, dtype=flow.dtype)
        given = (x, flow.blocks[0], arithmetic.rotary_table(flow.inverse_frequencies, 1), shape)
        lengths = torch.ones(1, dtype=torch.int32, device=flow.device)
        projected = kernels_hopper_project.project(*given, 1) if kernels_hopper_project.fits(shape) else made.project(*given)
        found = [kernels_hopper.attend(*projected, lengths, *made.memory)]
        weight, bias = flow.position.weights[0], flow.position.biases[0]
        if kernels_hopper_convolution.suits(x, weight):
            found.append(kernels_hopper_convolution.convolved(x, weight, bias, None, x))
        if not all(one.isfinite().all() for one in found):
            return None, "Gluon's gives no finite numbers here"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return None, f"Gluon's fails here: {type(error).__name__}"
    return made, ""
