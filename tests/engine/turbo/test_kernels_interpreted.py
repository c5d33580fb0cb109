"""The kernels give what torch's functions give: in Triton's interpreter, on a CPU, where Triton is installed (`pip install triton`)."""

import os

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("there is a card: tests/engine/turbo/test_on_card.py runs the kernels on it", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before Triton defines its own functions
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from lab.engine.turbo import arithmetic, kernels
from lab.engine.turbo.reading import Position, Shape

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
    same(kernels.heads(qkv, *norms, table, shape), (query * kernels.query_scale(SIZE), key))


@pytest.mark.parametrize("valid", [None, VALID])
def test_residuals_and_the_input_are_added_and_masked(valid):
    x, change = random(BATCH, ROWS, DIM), random(BATCH, ROWS, DIM) + 1
    gate, shift, scale = random(3, DIM)
    same(kernels.residual(x, change, gate, shift, scale, valid), arithmetic.residual(x, change, gate, shift, scale, valid))
    same([kernels.entered(x[:1].contiguous(), change, valid)], [arithmetic.entered(x[:1], change, valid)])


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


def test_attention_reads_no_key_behind_the_end():
    query, key, qkv = random(BATCH, ROWS, HEADS, SIZE), random(BATCH, ROWS, HEADS, SIZE), random(BATCH, ROWS, 3, HEADS, SIZE)
    lengths = torch.tensor([37, 21], dtype=torch.int32)
    want = arithmetic.attend(query, key, qkv[:, :, 2], lengths, VALID.transpose(1, 2)[:, None])
    key[1, 21:] = qkv[1, 21:] = float("nan")
    found = kernels.attend(query * kernels.query_scale(SIZE), key, qkv[:, :, 2], lengths, None)
    same([found[0], found[1, :21]], [want[0], want[1, :21]])
