"""The kernels give what torch's functions give: in Triton's interpreter, on a CPU, where Triton is installed (`pip install triton`)."""

import os

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("there is a card: tests/engine/turbo/test_on_card.py runs the kernels on it", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before Triton defines its own functions
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from lab.engine.turbo import arithmetic, convnext, kernels, kernels_attention, kernels_convnext
from lab.engine.turbo.reading import Position, Shape
from tests.engine.turbo import models

BATCH, ROWS, HEADS, SIZE = 2, 37, 3, 64
DIM = 320  # no power of two, twenty channels a group
VALID = (torch.arange(ROWS) < torch.tensor([[37], [21]]))[..., None]
close = {"atol": 2e-5, "rtol": 1e-5}


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def same(ours, theirs):
    for mine, want in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, want, **close)


@pytest.mark.parametrize(("rotary", "normed"), [(HEADS, True), (1, False)])
def test_heads_are_normed_rotated_and_scaled(rotary, normed):
    shape = Shape(DIM, HEADS, SIZE, rotary, 100, True, True)
    norms = (random(SIZE) + 2, random(SIZE) + 3) if normed else (None, None)
    table = arithmetic.rotary_table(10_000.0 ** -(torch.arange(0, SIZE, 2) / SIZE), ROWS)
    qkv = random(BATCH, ROWS, 3, HEADS, SIZE)
    query, key = arithmetic.heads(qkv, *norms, table, shape)
    same(kernels_attention.heads(qkv, *norms, table, shape), (query * kernels_attention.query_scale(SIZE), key))


@pytest.mark.parametrize("valid", [None, VALID])
def test_residuals_and_the_input_are_added_and_masked(valid):
    x, change = random(BATCH, ROWS, DIM), random(BATCH, ROWS, DIM) + 1
    gate, shift, scale = random(3, DIM)
    same(kernels.residual(x, change, gate, shift, scale, valid), arithmetic.residual(x, change, gate, shift, scale, valid))
    same([kernels.entered(x[:1].contiguous(), change, valid)], [arithmetic.entered(x[:1], change, valid)])


@pytest.mark.parametrize("valid", [None, VALID])
def test_a_convolution_by_descriptors_gives_the_same(valid):
    x, added = random(BATCH, ROWS, 64).half(), random(BATCH, ROWS, 64).half()
    layer = torch.nn.Conv1d(64, 64, 31, groups=4, padding=15).half()
    weight = layer.weight.detach().unflatten(0, (4, -1)).permute(3, 0, 2, 1).contiguous()
    with torch.inference_mode():
        want = layer.float()(x.float().transpose(1, 2)).transpose(1, 2)
        want = torch.nn.functional.mish(want if valid is None else torch.where(valid, want, 0.0)) + added
        found = kernels.convolved(x, weight, layer.bias.detach().half(), valid, added)
    assert torch.allclose(found.float(), want, atol=4e-3)


@pytest.mark.parametrize("valid", [None, VALID])
def test_positions_are_convolved(valid):
    layers = [torch.nn.Conv1d(DIM, DIM, 31, groups=16, padding=15) for _ in range(2)]
    weights = [layer.weight.detach().unflatten(0, (16, -1)).permute(3, 0, 2, 1).contiguous() for layer in layers]
    position = Position((layers[0], layers[1]), (weights[0], weights[1]), (layers[0].bias.detach(), layers[1].bias.detach()))
    hidden, (shift, scale) = random(BATCH, ROWS, DIM), random(2, DIM)
    hidden = hidden if valid is None else torch.where(valid, hidden, 0.0)
    with torch.inference_mode():
        same(kernels.positioned(hidden, position, valid, shift, scale), arithmetic.positioned(hidden, position, valid, shift, scale))


@pytest.mark.parametrize("branches", [1, 2])
def test_a_step_is_made_and_padded_for_the_next_product(branches):
    x, flow, width, guidance = random(1, ROWS, 100), random(branches, ROWS, 104), torch.tensor(0.1), torch.tensor(2.0)
    same(kernels.euler(x, flow, width, guidance), arithmetic.euler(x, flow, width, guidance))


def test_attention_counts_no_key_behind_the_end():
    query, key, qkv = random(BATCH, ROWS, HEADS, SIZE), random(BATCH, ROWS, HEADS, SIZE), random(BATCH, ROWS, 3, HEADS, SIZE)
    lengths = torch.tensor([37, 21], dtype=torch.int32)
    want = arithmetic.attention(query, key, qkv[:, :, 2], lengths, VALID.transpose(1, 2)[:, None])
    key[1, 21:] = qkv[1, 21:] = 100.0
    found = kernels.attention(query * kernels_attention.query_scale(SIZE), key, qkv[:, :, 2], lengths, None)
    same([found[0], found[1, :21]], [want[0], want[1, :21]])


@pytest.fixture(scope="module")
def block():
    """A ConvNeXt V2 block of upstream's, with 24 channels."""
    return models.convnext(24, 40)


@pytest.mark.parametrize("valid", [None, VALID])
def test_channels_are_convolved_and_normed_and_respond(block, valid):
    x = random(BATCH, ROWS, 24)
    with torch.inference_mode():
        same([kernels_convnext.depthwise(x, block, valid)], [convnext.depthwise(x, block, valid)])
        hidden = random(BATCH, ROWS, 40)
        here = torch.ones(BATCH, ROWS, 1, dtype=torch.bool) if valid is None else valid
        found, want = (part.responded(hidden, block.grn, valid) for part in (kernels_convnext, convnext))
        same([found * here], [want * here])


def test_products_in_fp32_with_what_comes_behind_them(block):
    x, residual = random(BATCH, ROWS, 40), random(BATCH, ROWS, 24)
    gamma = random(24)
    with torch.inference_mode():
        for part, wider in (("expanded", ()), ("linear", ()), ("contracted", (None, residual)), ("contracted", (gamma, residual))):
            same([getattr(kernels_convnext, part)(x, block.pwconv2, *wider)], [getattr(convnext, part)(x, block.pwconv2, *wider)])
