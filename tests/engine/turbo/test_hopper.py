"""The kernels for Hopper cards, on such a card. Skipped elsewhere."""

import random

import pytest
import torch
import torch.nn.functional as F

from lab.engine.turbo import arithmetic
from lab.engine.turbo.loop import Functions
from lab.engine.turbo.reading import Block, Position, Shape

if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
    pytest.skip("needs a Hopper card (H100, H200): run pytest tests/engine/turbo on such a machine", allow_module_level=True)

from lab.engine.turbo import kernels, kernels_attention, kernels_hopper, kernels_hopper_convolution, kernels_hopper_project
from lab.engine.turbo.hopper import Hopper

HEADS, SIZE = 16, 64
WIDTH = HEADS * SIZE


@pytest.fixture(scope="module")
def hopper():
    return Hopper(torch.device("cuda"))


def drawn(*shape, seed=0):
    return torch.randn(shape, device="cuda", generator=torch.Generator("cuda").manual_seed(seed))


def given(lengths, rows, seed=0, dtype=torch.float16):
    query, key, value = (drawn(len(lengths), rows, 3, HEADS, SIZE, seed=seed) * 1.5).to(dtype).unbind(2)
    return query, key, value, torch.tensor(lengths, dtype=torch.int32, device="cuda")


def attended(hopper, query, key, value, lengths):
    scaled = (query.float() * kernels_attention.query_scale(SIZE)).to(query.dtype)
    return kernels_hopper.attend(scaled, key, value, lengths, *hopper.memory)


def far(found, query, key, value, lengths):
    """How far `found` is from the same in FP32."""
    mask = (torch.arange(query.shape[1], device="cuda") < lengths[:, None])[:, None, None]
    want = arithmetic.attention(query.float(), key.float(), value.float(), lengths, mask)
    return max((found[line, :length] - want[line, :length]).abs().max().item() for line, length in enumerate(lengths.tolist()))


@pytest.mark.parametrize("rows", [64, 192, 512, 1024, 1216, 1280, 1344, 1408, 2048])  # 1,344 and 1,408 are cut into parts
def test_attention_gives_what_torch_gives_in_fp32(hopper, rows):
    one = given([rows - 2, rows], rows)
    assert far(attended(hopper, *one), *one) < 4e-3


def test_attention_takes_bfloat16(hopper):
    one = given([700, 500], 704, dtype=torch.bfloat16)
    assert far(attended(hopper, *one), *one) < 4e-2


def test_attention_takes_any_lengths_in_any_batch(hopper):
    rng = random.Random(0)
    for seed in range(60):
        rows = rng.choice([64, 192, 640, 1344, 1408])
        one = given([rng.randint(1, rows) for _ in range(rng.choice([1, 2, 4, 8]))], rows, seed=seed)
        assert far(attended(hopper, *one), *one) < 4e-3
    assert not hopper.memory[1].any()


def test_parts_are_joined_to_the_same_bits_every_time(hopper):
    one = given([1406, 1301], 1408)
    first = attended(hopper, *one).clone()
    for _ in range(100):
        again = attended(hopper, *one)
        assert torch.equal(again[0, :1406], first[0, :1406])
        assert torch.equal(again[1, :1301], first[1, :1301])


@pytest.mark.parametrize(("rotary", "normed", "dtype"), [(16, False, torch.float16), (1, True, torch.float16), (16, True, torch.bfloat16)])
@pytest.mark.parametrize("rows", [1, 100, 704, 1408])
def test_queries_keys_and_values_are_those_of_two_kernels(rows, rotary, normed, dtype):
    weight, bias = (drawn(3 * WIDTH, WIDTH) * 0.02).to(dtype), drawn(3 * WIDTH).to(dtype)
    norms = [(drawn(SIZE, seed=seed).abs() + 1).to(dtype) if normed else None for seed in (1, 2)]
    block = Block(weight, bias, *norms, *[weight] * 6)
    table = arithmetic.rotary_table((10_000.0 ** -(torch.arange(0, SIZE, 2) / SIZE)).cuda(), rows)
    shape = Shape(WIDTH, HEADS, SIZE, rotary, 100, True, True)
    x = drawn(2, rows, WIDTH, seed=3).to(dtype)
    multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count
    found = kernels_hopper_project.project(x, block, table, shape, multiprocessors)
    for mine, want in zip(found, kernels_attention.project(x, block, table, shape), strict=True):
        assert (mine.float() - want.float()).abs().max() < (0.02 if dtype == torch.float16 else 0.1)


def convolution(lines, rows, cut=(), dtype=torch.float16, taps=31):
    """What a position convolution is given, with sequences that end `cut` rows before the last, and the same in FP32."""
    valid = torch.ones((lines, rows, 1), dtype=torch.bool, device="cuda")
    for line, count in enumerate(cut):
        valid[line, rows - count :] = False
    x, added = (drawn(lines, rows, WIDTH, seed=seed).to(dtype) for seed in (1, 2))
    x = x * valid
    weight, bias = (drawn(taps, HEADS, SIZE, SIZE, seed=3) * 0.02).to(dtype), drawn(WIDTH, seed=4).to(dtype)
    kernel = weight.float().permute(1, 3, 2, 0).reshape(WIDTH, SIZE, taps)
    with torch.backends.cudnn.flags(allow_tf32=False):
        want = F.conv1d(x.float().mT, kernel, bias.float(), padding=taps // 2, groups=HEADS).mT
    return (x, weight, bias, valid if cut else None), added, F.mish(torch.where(valid, want, 0.0))


@pytest.mark.parametrize(("lines", "rows"), [(1, 1), (2, 100), (2, 512), (2, 704), (2, 960), (2, 1216), (2, 1408), (1, 2048), (16, 1408)])
def test_the_convolution_gives_what_torch_gives_in_fp32(lines, rows):
    given, added, want = convolution(lines, rows)
    assert (kernels_hopper_convolution.convolved(*given, None).float() - want).abs().max() < 4e-3
    assert (kernels_hopper_convolution.convolved(*given, added).float() - want - added.float()).abs().max() < 8e-3


def test_the_convolution_sees_nothing_of_its_neighbours_in_a_batch():
    given, added, _ = convolution(3, 640)
    first = kernels_hopper_convolution.convolved(*given, added)
    x = given[0].clone()
    x[::2] = float("nan")
    assert torch.equal(kernels_hopper_convolution.convolved(x, *given[1:], added)[1], first[1])


def test_rows_that_are_not_valid_are_only_what_is_added():
    given, added, _ = convolution(2, 640, cut=(0, 77))
    assert torch.equal(kernels_hopper_convolution.convolved(*given, added)[1, -77:], added[1, -77:])
    assert not kernels_hopper_convolution.convolved(*given, None)[1, -77:].any()


def test_the_convolution_takes_bfloat16_and_fewer_taps():
    given, added, want = convolution(2, 704, dtype=torch.bfloat16, taps=7)
    assert (kernels_hopper_convolution.convolved(*given, added).float() - want - added.float()).abs().max() < 6e-2


def test_the_convolution_gives_the_same_bits_every_time():
    given, added, _ = convolution(2, 1216, cut=(0, 99))
    first = kernels_hopper_convolution.convolved(*given, added)
    for _ in range(100):
        assert torch.equal(kernels_hopper_convolution.convolved(*given, added), first)


def test_the_convolution_gives_what_the_kernel_for_all_cards_gives():
    given, added, _ = convolution(2, 1408, cut=(3, 300))
    assert (kernels_hopper_convolution.convolved(*given, added).float() - kernels.convolved(*given, added).float()).abs().max() < 8e-3


def test_the_position_waits_for_its_first_convolution(hopper):
    given, _, _ = convolution(2, 1216, cut=(0, 99))
    x, weight, bias, valid = given
    shift, scale = drawn(2, WIDTH, seed=5)
    position = Position((), (weight, weight), (bias, bias))
    positioned = hopper.functions(Functions.of(arithmetic), Shape(WIDTH, HEADS, SIZE, HEADS, 100, True, True)).positioned
    want, _ = kernels.positioned(x, position, valid, shift, scale)
    for _ in range(50):
        found, _ = positioned(x, position, valid, shift, scale)
        assert (found.float() - want.float()).abs().max() < 1e-2
