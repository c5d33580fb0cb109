"""The kernels give what torch's functions give: in Triton's interpreter, on a CPU, where Triton is installed (`pip install triton`)."""

import copy
import os

import pytest
import torch

if torch.cuda.is_available():
    pytest.skip("there is a card: tests/engine/turbo/test_on_card.py runs the kernels on it", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before Triton defines its own functions
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from lab.engine.turbo import arithmetic, convnext, kernels, kernels_attention, kernels_convnext, kernels_vocoder
from lab.engine.turbo.convnext import PLAIN, Parts
from lab.engine.turbo.reading import Position, Shape
from lab.engine.turbo.vocoder import decode, read_vocoder
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
    noise, weight = random(1, ROWS, 20), random(DIM, 20)
    same([kernels.entered(noise, weight, change, valid)], [arithmetic.entered(noise, weight, change, valid)])


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


def test_gelu_in_fp16_is_nearer_to_the_exact_one_than_torchs_and_responds(block):
    grn = copy.deepcopy(block.grn)
    torch.nn.init.zeros_(grn.gamma), torch.nn.init.zeros_(grn.beta)  # nothing but GELU is left
    x = torch.linspace(-9, 9, 2 * 700 * 40).reshape(2, 700, 40).half()  # rows of several programs
    valid = (torch.arange(700) < torch.tensor([[700], [333]]))[..., None]
    want = torch.nn.functional.gelu(x.double())
    with torch.inference_mode():
        spoiled = torch.where(valid, x, float("nan"))
        found = kernels_convnext.responded(spoiled, grn, valid)
        mine, torchs = ((each - want) * valid for each in (found, torch.nn.functional.gelu(x)))
        assert mine.norm() <= torchs.norm()
        assert mine.abs().max() <= torchs.abs().max()
        grn = block.grn
        found, want = kernels_convnext.responded(spoiled.float(), grn, valid), convnext.responded(x.float(), grn, valid)
        same([torch.where(valid, found, 0.0)], [torch.where(valid, want, 0.0)])


@pytest.fixture(scope="module")
def vocos():
    return models.vocos()


def kinds(x):
    """Numbers as they are, a few a thousand times as large, and all small."""
    return x, torch.where(random(*x.shape) > 2, 1e3 * x, x), 1e-4 * x


def test_products_of_pairs_are_off_by_less_than_fp32_rounds():
    layer = torch.nn.Linear(200, 72)
    torch.nn.init.normal_(layer.weight, std=0.02)
    residual, gamma = random(BATCH, ROWS, 72), random(72)
    with torch.inference_mode():
        norm = torch.nn.LayerNorm(200)
        norm.weight.mul_(1e3)  # each kind of numbers comes with the same scale, though small ones are far below what that is made for
        (made,) = kernels_vocoder.ready({}, norm, layer)
        for x in kinds(random(BATCH, ROWS, 200)):
            high = (x * made.before).half()
            pairs = torch.stack((high, ((x * made.before - high.float()) * 2048).half()))
            want = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
            most = torch.nn.functional.linear(x.abs(), layer.weight.abs(), layer.bias.abs())
            found = kernels_vocoder.product(pairs, made, layer.bias, kernels_vocoder.DOWN)
            assert ((found - want).abs() <= 1e-6 * most).all()
            found = kernels_vocoder.product(pairs, made, layer.bias, kernels_vocoder.DOWN, gamma=gamma, residual=residual)
            assert ((found - residual - gamma * want).abs() <= 1e-6 * (gamma.abs() * most + residual.abs())).all()
            high, low = kernels_vocoder.product(pairs, made, layer.bias, kernels_vocoder.UP, onward=16.0).float()
            assert ((high + low / 2048) / 16 - torch.nn.functional.gelu(want)).abs().max() < 1e-6 * most.max()


@pytest.mark.parametrize("valid", [None, VALID])
def test_a_block_and_the_head_of_the_vocoder_are_as_near_as_torchs_in_fp32(vocos, valid):
    block, head = vocos.backbone.convnext[0], (vocos.backbone.final_layer_norm, vocos.head.out)
    wide = [copy.deepcopy(part).double() for part in (block, *head)]
    with torch.inference_mode():
        made = {}
        for x in kinds(random(BATCH, ROWS, 64)):
            wanted = convnext.whole(x.double(), wide[0], valid, {}), wide[2](wide[1](x.double()))
            for part, given, want in zip(("whole", "headed"), ((block, valid, made), (*head, made)), wanted, strict=True):
                mine, torchs = ((getattr(module, part)(x, *given) - want).norm() / want.norm() for module in (kernels_vocoder, convnext))
                assert mine <= max(torchs, 1e-7)
    assert list(made) == [block.norm, head[0]]


def test_no_pair_is_beyond_fp16_whatever_the_sound(vocos):
    block = copy.deepcopy(vocos.backbone.convnext[0])
    torch.nn.init.constant_(block.pwconv1.weight, 100.0)  # all of a row counts for each number
    x = torch.zeros(1, 20, 64)
    x[:, 10] = 1e4 * torch.randn(64).sign()
    x[:, 3, 5] = 1e6  # no row can have a larger number after the norm
    with torch.inference_mode():
        found, want = kernels_vocoder.whole(x, block, None, {}), convnext.whole(x, block, None, {})
    assert torch.allclose(found, want, rtol=1e-4)


def test_what_pairs_cannot_be_made_for_is_left_to_torch(vocos):
    norm, layer = torch.nn.LayerNorm(20), torch.nn.Linear(20, 30)
    x = random(BATCH, ROWS, 20)
    with torch.inference_mode():
        assert torch.equal(kernels_vocoder.headed(x, norm, layer, {}), convnext.headed(x, norm, layer, {}))
        x, norm = random(BATCH, ROWS, 64).half(), copy.deepcopy(vocos.backbone.final_layer_norm).half()
        found, want = (part.headed(x, norm, vocos.head.out, {}) for part in (kernels_vocoder, convnext))
        assert (found - want).norm() < 1e-4 * want.norm()  # the norm is rounded to FP16 on both ways


@pytest.mark.parametrize("valid", [None, VALID])
def test_a_mel_is_embedded_as_near_as_by_torch_in_fp32(vocos, valid):
    layer, made = vocos.backbone.embed, {}
    with torch.inference_mode():
        for x in (5 * random(BATCH, ROWS, 100) - 3, *kinds(random(BATCH, ROWS, 100)), torch.full((BATCH, ROWS, 100), 6e4)):
            want = convnext.embedded(x.double(), copy.deepcopy(layer).double(), valid, {})
            torchs = (convnext.embedded(x, layer, valid, {}) - want).norm() / want.norm()
            if valid is not None:
                x = torch.where(valid, x, float("nan"))
            found = kernels_vocoder.embedded(x, layer, valid, made)
            assert found.is_contiguous() or found.shape[0] > 1
            assert (found - want).norm() / want.norm() <= max(torchs, 1e-7)
    assert list(made) == [layer]


def test_a_mel_beyond_fp16_sounds_as_no_number_and_where_it_is_alone(vocos):
    x = random(BATCH, ROWS, 100)
    x[0, -1, 5] = 1e5
    with torch.inference_mode():
        found = kernels_vocoder.embedded(x, vocos.backbone.embed, None, {})
    assert found[0, -4:].isnan().any(dim=-1).all()
    assert found[0, :-4].isfinite().all()
    assert found[1].isfinite().all()


def test_other_convolutions_are_left_to_torch():
    layers = [
        torch.nn.Conv1d(8, 8, 4, padding=2),
        torch.nn.Conv1d(8, 8, 7, padding=3, groups=2),
        torch.nn.Conv1d(8, 8, 7, padding=3, padding_mode="reflect"),
    ]
    x = random(BATCH, ROWS, 8)
    with torch.inference_mode():
        for layer in layers:
            assert torch.equal(kernels_vocoder.embedded(x, layer, VALID, {}), convnext.embedded(x, layer, VALID, {}))


@pytest.mark.parametrize(
    ("rows", "columns", "tiles", "wanted"),
    [
        (960, 1536, kernels_vocoder.UP, 0),  # 360 parts, of which 396 find room at once
        (1408, 1536, kernels_vocoder.UP, 1),  # 528, against 132 of 132
        (2048, 1536, kernels_vocoder.UP, 0),
        (960, 512, kernels_vocoder.DOWN, 0),
        (1408, 512, kernels_vocoder.DOWN, 1),
        (2048, 512, kernels_vocoder.DOWN, 1),
    ],
)
def test_tiles_are_chosen_by_what_finds_room_at_once(rows, columns, tiles, wanted):
    assert kernels_vocoder.chosen(tiles, rows, columns, 132, 233_472) == tiles[wanted]
    assert kernels_vocoder.chosen(tiles, rows, columns, 132, 50_000) == kernels_vocoder.SMALL


@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize(("size", "hop"), [(64, 16), (1024, 256), (96, 48)])
def test_spectra_become_sound(size, hop, valid):
    window = torch.hann_window(size)
    found = 2 * random(BATCH, ROWS, size + 2)
    found[0, 3, size - 9] = -1e5  # a phase that has gone round often
    found[0, 4, 7] = 20.0  # louder than can be
    want = convnext.sounded(found, window, hop, valid)
    if valid is not None:
        found = torch.where(valid, found, float("nan"))
    made = kernels_vocoder.sounded(found, window, hop, valid)
    assert made.shape == want.shape
    for line, rows in enumerate((ROWS, ROWS if valid is None else 21)):
        mine, theirs = (sound[line, : (rows - 1) * hop] for sound in (made, want))
        assert (mine - theirs).abs().max() < 1e-6 * theirs.abs().max()


def test_the_vocoder_of_kernels_is_the_vocoder(vocos):
    vocoder = read_vocoder(vocos)
    kernels = {name: getattr(kernels_vocoder, name) for name in ("whole", "headed", "sounded", "embedded")}
    parts = Parts(**kernels)
    with torch.inference_mode():
        found, want = (decode(vocoder, random(BATCH, ROWS, 100), VALID, each) for each in (parts, PLAIN))
    assert (found - want).norm() < 1e-5 * want.norm()
