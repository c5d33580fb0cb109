"""Turbo on a CUDA card: graphs, kernels and memory, which nothing else can show. Skipped where there is none."""

import copy
import dataclasses
import random

import pytest
import torch

from lab.engine.turbo import Piece, Settings, Trace, Turbo, accelerate
from tests.engine.turbo import models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run pytest tests/engine/turbo on a GPU machine")
SEVEN = Settings(steps=7)


@pytest.fixture(scope="module", autouse=True)
def exact():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def golden():
    return models.small(heads=4, dim=256, text_dim=128).cuda()


@pytest.fixture(scope="module")
def half():
    return models.small(heads=4, dim=256, text_dim=128).cuda().half()


@pytest.fixture(scope="module")
def vocos():
    return models.vocos().cuda()


@pytest.fixture(scope="module")
def turbo(half, vocos):
    turbo = Turbo(half, vocos, graphs=80)
    yield turbo
    turbo.close()


def piece(frames, reference=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn(reference, 100, generator=generator).cuda()
    return Piece(mel, [1 + number % 28 for number in range(30)], frames, torch.randn(frames, 100, generator=generator).cuda())


def sampled(turbo, pieces, settings=SEVEN, trace=None):
    mels = turbo.mels(pieces, settings, trace)
    return [mels[line, : one.frames].clone() for line, one in enumerate(pieces)]


def reference(model, one, settings=SEVEN):
    """Upstream's own answer to a piece, with the piece's noise."""
    from f5_tts.model import cfm

    class Noise:
        def __getattr__(self, name):
            return (lambda *_, dtype, **__: one.noise.to(dtype)) if name == "randn" else getattr(torch, name)

    kept, cfm.torch = cfm.torch, Noise()
    try:
        text = torch.tensor([list(one.ids)]).cuda()
        options = {"steps": settings.steps, "cfg_strength": settings.guidance, "sway_sampling_coef": settings.sway}
        return model.sample(one.reference[None], text, one.frames, **options)[0][0].float()
    finally:
        cfm.torch = kept


def test_fp16_is_nearer_to_the_golden_render_than_upstreams_fp16(turbo, golden, half):
    for steps in (4, 7, 16, 32):
        settings = Settings(steps=steps)
        one = piece(700, seed=steps)
        want = reference(golden, one, settings)
        mine, theirs = sampled(turbo, [one], settings)[0], reference(half, one, settings)
        assert (mine - want).abs().mean() <= (theirs - want).abs().mean()
        assert (mine - want).abs().max() <= (theirs - want).abs().max()


def test_fp32_on_a_card_is_upstreams_within_rounding(golden):
    turbo = Turbo(golden)
    one = piece(333)
    assert torch.allclose(sampled(turbo, [one])[0], reference(golden, one), atol=1e-3)
    assert "FP32" in turbo.no_kernels
    assert not turbo.no_graphs


def test_a_graph_gives_what_the_same_kernels_give_without_it(turbo, half, vocos):
    plain = Turbo(half, vocos, without=["graphs"])
    one = piece(500)
    assert torch.equal(sampled(turbo, [one])[0], sampled(plain, [one])[0])
    mel = one.noise[:200].contiguous()
    assert torch.equal(turbo.audio([mel])[:, : 199 * 256], plain.audio([mel])[:, : 199 * 256])
    assert plain.no_graphs == "left out"


def test_kernels_give_what_torchs_functions_give_within_rounding(turbo, half):
    plain = Turbo(half, without=["kernels", "graphs"])
    one = piece(431)
    assert (sampled(turbo, [one])[0] - sampled(plain, [one])[0]).abs().max() < 0.05


def test_the_vocoders_kernels_are_as_near_as_fp32_rounds(turbo, half, vocos):
    plain = Turbo(half, vocos, without=["kernels"])
    mel = piece(190).noise
    ours, theirs = (each.audio([mel])[:, : 189 * 256].clone() for each in (turbo, plain))
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


@pytest.fixture(scope="module")
def vocoder_block():
    """A block and a head of the published Vocos' sizes, and the same in FP64."""
    from vocos.modules import ConvNeXtBlock

    torch.manual_seed(0)
    made = [ConvNeXtBlock(512, 1536, 1 / 8), torch.nn.LayerNorm(512), torch.nn.Linear(512, 1026)]
    for parameter in (made[0].norm.weight, made[1].weight):
        torch.nn.init.normal_(parameter, 1.0, 0.3)
    return [part.cuda().eval() for part in made], [copy.deepcopy(part).cuda().double() for part in made]


@pytest.mark.parametrize("size", [1.0, 1e3, 1e-4])
@pytest.mark.parametrize(("batch", "rows"), [(1, 64), (1, 448), (1, 960), (3, 200), (1, 2048)])
def test_products_of_pairs_are_as_near_as_torchs_in_fp32(vocoder_block, batch, rows, size):
    from lab.engine.turbo import convnext, kernels_vocoder

    (block, *head), (wide, norm, layer) = vocoder_block
    x = size * torch.randn(batch, rows, 512, device="cuda", generator=torch.Generator("cuda").manual_seed(rows))
    x[:, 5, 7] = 1e3 * size  # a row with one number that outshines the others
    valid = (torch.arange(rows, device="cuda") < torch.tensor([rows - 9] * batch, device="cuda")[:, None])[..., None]
    with torch.inference_mode():
        want = convnext.whole(x.double(), wide, valid, {})
        mine, torchs = ((module.whole(x, block, valid, {}) - want).norm() for module in (kernels_vocoder, convnext))
        assert mine <= torchs
        want = layer(norm(x.double()))
        mine, torchs = ((module.headed(x, *head, {}) - want).norm() for module in (kernels_vocoder, convnext))
        assert mine <= torchs


@pytest.mark.parametrize(("batch", "rows"), [(1, 64), (1, 448), (1, 960), (3, 200), (1, 2048)])
def test_a_mel_is_embedded_as_near_as_by_torch_in_fp32(batch, rows):
    from lab.engine.turbo import convnext, kernels_vocoder

    torch.manual_seed(0)
    layer, made = torch.nn.Conv1d(100, 512, 7, padding=3).cuda(), {}
    wide = copy.deepcopy(layer).double()
    x = 4 * torch.randn(batch, rows, 100, device="cuda", generator=torch.Generator("cuda").manual_seed(rows)) - 3
    valid = (torch.arange(rows, device="cuda") < torch.tensor([rows - 9] * batch, device="cuda")[:, None])[..., None]
    with torch.inference_mode():
        want = convnext.embedded(x.double(), wide, valid, {})
        torchs = (convnext.embedded(x, layer, valid, {}) - want).norm()
        x = torch.where(valid, x, float("nan"))
        found = kernels_vocoder.embedded(x, layer, valid, made)
        assert (found - want).norm() <= torchs
        for _ in range(20):
            assert torch.equal(kernels_vocoder.embedded(x, layer, valid, made), found)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [64, 448, 1216])
def test_channels_respond_as_torchs_and_with_the_same_bits_every_time(rows, masked):
    from f5_tts.model.modules import GRN

    from lab.engine.turbo import convnext, kernels_convnext

    torch.manual_seed(0)
    grn = GRN(1024)
    for parameter in grn.parameters():
        torch.nn.init.normal_(parameter)
    grn = grn.cuda()
    x = 2 * torch.randn(2, rows, 1024, device="cuda").half()
    valid = (torch.arange(rows, device="cuda") < torch.tensor([[rows], [rows - 17]], device="cuda"))[..., None] if masked else None
    with torch.inference_mode():
        want = convnext.responded(x.double(), copy.deepcopy(grn).double(), valid)
        torchs = convnext.responded(x, copy.deepcopy(grn).half(), valid)
        given = x if valid is None else torch.where(valid, x, float("nan"))
        found = kernels_convnext.responded(given, copy.deepcopy(grn).half(), valid)
        wanted = [each[1, : rows - 17] for each in (found, torchs, want)]
        assert (wanted[0] - wanted[2]).norm() <= (wanted[1] - wanted[2]).norm()
        for _ in range(20):
            again = kernels_convnext.responded(given, copy.deepcopy(grn).half(), valid)
            assert torch.equal(again.view(torch.int16), found.view(torch.int16))


def test_a_block_and_the_head_of_the_vocoder_have_the_same_bits_every_time(vocoder_block):
    from lab.engine.turbo import kernels_vocoder

    (block, *head), _ = vocoder_block
    x, made = torch.randn(1, 960, 512, device="cuda"), {}
    with torch.inference_mode():
        first, top = kernels_vocoder.whole(x, block, None, made), kernels_vocoder.headed(x, *head, made)
        for _ in range(100):
            assert torch.equal(kernels_vocoder.whole(x, block, None, made), first)
            assert torch.equal(kernels_vocoder.headed(x, *head, made), top)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("batch", "rows"), [(1, 64), (1, 960), (3, 200)])
def test_spectra_become_sound_as_torch_makes_it(batch, rows, masked):
    from lab.engine.turbo import convnext, kernels_vocoder

    window = torch.hann_window(1024, device="cuda")
    found = 2 * torch.randn(batch, rows, 1026, device="cuda", generator=torch.Generator("cuda").manual_seed(rows))
    found[:, 20, 600], found[:, 21, 700] = 1e6, -12_345.6  # phases that have gone round often
    found[:, 22, 9] = 20.0  # louder than can be
    kept = rows - 17 if masked else rows
    valid = (torch.arange(rows, device="cuda") < torch.tensor([kept] * batch, device="cuda")[:, None])[..., None] if masked else None
    want = convnext.sounded(found, window, 256, valid)[:, : (kept - 1) * 256]
    found[:, kept:] = float("nan")
    made = kernels_vocoder.sounded(found, window, 256, valid)[:, : (kept - 1) * 256]
    assert (made - want).abs().max() < 2e-6 * want.abs().max()


@pytest.mark.parametrize("idea", ["tables", "hoists", "rotary-table", "fused-qkv", "fused-gelu", "one-convolution", "attention", "hopper"])
def test_leaving_an_idea_out_changes_the_time_and_not_the_result(turbo, half, idea):
    one = piece(300)
    assert (sampled(turbo, [one])[0] - sampled(Turbo(half, without=[idea]), [one])[0]).abs().max() < 0.05


def test_a_batch_of_different_lengths_gives_what_each_gives_alone(turbo):
    pieces = [piece(frames, seed=frames) for frames in (700, 655, 610, 530)]
    for together, alone in zip(sampled(turbo, pieces), [sampled(turbo, [one])[0] for one in pieces], strict=True):
        assert (together - alone).abs().max() < 0.05


def test_what_stood_in_a_graphs_buffers_before_cannot_reach_a_result(turbo):
    one, longer = piece(580), piece(640)
    first = sampled(turbo, [one])[0]
    spoiled = dataclasses.replace(
        longer, noise=torch.full_like(longer.noise, float("nan")), reference=torch.full_like(longer.reference, float("nan"))
    )
    assert sampled(turbo, [spoiled])[0].isnan().any()
    assert torch.equal(sampled(turbo, [one])[0], first)
    mel = torch.randn(181, 100).cuda()
    sound = turbo.audio([mel])[0, : 180 * 256].clone()
    turbo.audio([torch.full((192, 100), float("nan")).cuda()])
    assert torch.equal(turbo.audio([mel])[0, : 180 * 256], sound)


def test_a_warm_engine_captures_nothing_for_fifty_random_lengths_in_its_buckets(turbo):
    rng = random.Random(1)
    lengths = [rng.randint(200, 1000) for _ in range(50)]
    turbo.warmup(lengths, SEVEN, generated=[length - 60 for length in lengths])
    before = dataclasses.replace(turbo.counters)
    for length in lengths:
        other = rng.randint((length - 1) // 64 * 64 + 1, -(-length // 64) * 64)  # of the same bucket
        sampled(turbo, [piece(other)])
    assert turbo.counters.captures == before.captures
    assert turbo.counters.replays == before.replays + 50


def test_steps_are_timed_inside_the_graph(turbo):
    trace = Trace()
    for _ in range(2):
        sampled(turbo, [piece(512)], trace=trace)
    torch.cuda.synchronize()
    times = trace.steps_ms[-1]()
    assert len(times) == 7
    assert all(0 < time < 1000 for time in times)
    assert trace.replayed


def test_the_number_of_graphs_is_bounded_and_the_least_recently_used_goes_first(half):
    turbo = Turbo(half, graphs=2)
    for frames in (100, 200, 100, 300, 100):
        sampled(turbo, [piece(frames)])
    assert turbo.graphs.kept == 2
    assert turbo.counters.captures == 3  # 100 stayed, 200 went
    assert turbo.counters.evictions == 1


def test_a_failed_capture_is_said_and_the_result_still_comes(half, monkeypatch):
    turbo = Turbo(half)
    monkeypatch.setattr(turbo.graphs, "_capture", lambda *_: (_ for _ in ()).throw(RuntimeError("capture is not permitted")))
    trace = Trace()
    assert sampled(turbo, [piece(200)], trace=trace)[0].isfinite().all()
    assert not trace.replayed
    assert turbo.no_graphs == "a capture failed: capture is not permitted"


def test_upstreams_sample_and_decode_are_stood_in_for(half, vocos):
    fast, decoder = accelerate(half, vocos)
    text = torch.tensor([[1, 2, 3, -1], [4, 5, 6, 7]]).cuda()
    cond = torch.randn(2, 40, 100).cuda()
    mel, state = fast.sample(cond, text, torch.tensor([90, 120]), steps=7, cfg_strength=2.0, sway_sampling_coef=-1.0, seed=3)
    assert mel.shape == (2, 120, 100)
    assert mel.dtype == torch.float16
    assert state.shape == (1, 2, 120, 100)
    assert decoder.decode(mel.float().transpose(1, 2)).shape == (2, 119 * 256)
