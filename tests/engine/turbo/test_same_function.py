"""Turbo computes what upstream computes: FP32 on a CPU, the same noise, mels within 1e-4."""

import dataclasses

import pytest
import torch

from lab.engine.turbo import Piece, Settings, TooLongError, Turbo, UnsupportedModelError, accelerate, arithmetic
from lab.engine.turbo.buckets import MAX_ROWS
from lab.engine.turbo.limits import flop_per_step
from lab.engine.turbo.loop import Inputs, Sampler
from lab.engine.turbo.schedule import make_schedule, time_grid
from lab.engine.turbo.text import spread
from lab.engine.turbo.vocoder import decode, read_vocoder
from tests.engine.turbo import models

CLOSE = 1e-4
NAN = float("nan")


@pytest.fixture(scope="module", params=["plain", "normed", "as the demo"])
def model(request):
    arch = {
        "plain": {"text_mask_padding": False, "pe_attn_head": 1},  # as F5TTS_Base
        "normed": {"qk_norm": "rms_norm"},
        "as the demo": {"qk_norm": "rms_norm", "text_embedding_average_upsampling": True, "heads": 3},
    }
    return models.small(**arch[request.param])


@pytest.fixture(scope="module")
def fast(model):
    return accelerate(model, models.vocos())[0]


def spoken(length, lines=1):
    return torch.tensor([[(7 * line + number) % 28 for number in range(length)] for line in range(lines)])


def both(model, fast, *, reference=40, text=25, frames=120, **options):
    cond = torch.randn(1, reference, 100, generator=torch.Generator().manual_seed(1))
    arguments = {"steps": 7, "cfg_strength": 2.0, "sway_sampling_coef": -1.0, "seed": 5, **options}
    return model.sample(cond, spoken(text), frames, **arguments)[0], fast.sample(cond, spoken(text), frames, **arguments)[0]


def distance(pair):
    ours, theirs = pair
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert theirs.std() > 0.1  # there is something to differ in
    return (ours - theirs).abs().max()


@pytest.mark.parametrize("steps", range(4, 33))
def test_every_number_of_steps_gives_upstreams_mel(model, fast, steps):
    assert distance(both(model, fast, steps=steps, frames=70)) <= CLOSE


@pytest.mark.parametrize("guidance", [0.0, 1e-6, 0.5, 2.0])
@pytest.mark.parametrize("sway", [None, -1.0, 0.4])
@pytest.mark.parametrize("epss", [True, False])
def test_guidance_sway_and_pruned_steps_can_be_on_and_off(model, fast, guidance, sway, epss):
    assert distance(both(model, fast, cfg_strength=guidance, sway_sampling_coef=sway, use_epss=epss)) <= CLOSE


@pytest.mark.parametrize(("text", "frames"), [(1, 42), (3, 60), (25, 900), (200, 230), (200, 90)])
def test_a_text_may_be_short_long_or_have_more_letters_than_frames(model, fast, text, frames):
    assert distance(both(model, fast, text=text, frames=frames)) <= CLOSE


def test_a_wave_texts_as_letters_no_reference_and_an_edit_are_taken_as_upstream_takes_them(model, fast):
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1)) * 0.1
    for options in (
        {},
        {"no_ref_audio": True},
        {"edit_mask": torch.arange(32)[None] % 3 > 0},
        {"lens": torch.tensor([20])},
        {"max_duration": 50},
    ):
        arguments = {"steps": 5, "cfg_strength": 2.0, "seed": 1, **options}
        text = [list("hello there")]
        assert distance((model.sample(wave, text, 80, **arguments)[0], fast.sample(wave, text, 80, **arguments)[0])) <= CLOSE


def test_a_batch_of_different_lengths_gives_what_upstream_gives_for_each_alone(model, fast):
    lengths, given, letters = [150, 90, 131, 60], [40, 30, 40, 20], [30, 12, 3, 25]
    cond = torch.randn(4, 40, 100, generator=torch.Generator().manual_seed(2))
    text = torch.full((4, 30), -1)
    for line, count in enumerate(letters):
        text[line, :count] = spoken(30, 4)[line, :count]
    options = {"steps": 6, "cfg_strength": 2.0, "sway_sampling_coef": -1.0, "seed": 9}
    together, state = fast.sample(cond, text, torch.tensor(lengths), lens=torch.tensor(given), **options)
    assert together.shape == (4, 150, 100)
    assert torch.equal(state[-1], together)
    for line, frames in enumerate(lengths):
        alone = model.sample(cond[line : line + 1, : given[line]], text[line : line + 1, : letters[line]], frames, **options)[0]
        assert (together[line, :frames] - alone[0]).abs().max() <= CLOSE
        assert not together[line, frames:].any()


def test_a_vocoder_that_is_handed_in_is_used(model, fast):
    made = fast.sample(torch.randn(1, 30, 100), spoken(9), 50, steps=4, seed=1, vocoder=lambda mel: mel * 0 + mel.shape[1])[0]
    assert made.shape == (1, 100, 50)
    assert (made == 100).all()


@pytest.mark.parametrize("name", models.CONFIGS)
def test_the_architectures_of_upstreams_configs_are_known(name):
    big = models.of_config(name)
    assert distance(both(big, accelerate(big, models.vocos())[0], frames=64, steps=4)) <= CLOSE


def test_others_are_refused_by_name():
    arch = {"dim": 64, "depth": 2, "heads": 2}
    for model, word in (
        (models.cfm(backbone="UNetT", **arch), "UNetT"),
        (models.cfm(backbone="MMDiT", **arch), "MMDiT"),
        (models.small(long_skip_connection=True), "long skip"),
    ):
        with pytest.raises(UnsupportedModelError, match=word):
            Turbo(model)
    rounded = models.small()
    rounded.transformer.text_embed.text_blocks[0].act = torch.nn.GELU(approximate="tanh")
    with pytest.raises(UnsupportedModelError, match="text encoder"):
        Turbo(rounded)
    midpoint = models.small()
    midpoint.odeint_kwargs = {"method": "midpoint"}
    with pytest.raises(UnsupportedModelError, match="midpoint"):
        Turbo(midpoint)


def test_a_sequence_longer_than_upstreams_positions_is_refused(fast):
    with pytest.raises(TooLongError, match="8192"):
        fast.sample(torch.randn(1, 30, 100), spoken(5), MAX_ROWS + 1, steps=4)


def inputs_of(pieces, rows, fill):
    """Inputs whose rows behind each sequence hold `fill`."""
    made = Inputs.empty(len(pieces), rows, 100, torch.device("cpu"))
    made.noise.fill_(fill)
    made.reference.fill_(fill)
    for line, piece in enumerate(pieces):
        made.noise[line, : piece.frames] = piece.noise
        made.reference[line, : len(piece.reference)] = piece.reference
        made.numbers[line, 0] = piece.frames
        made.part(0)[line, : len(piece.ids)] = torch.tensor(piece.ids, dtype=torch.int32) + 1
        spread(made.part(1)[line, : piece.frames].numpy(), len(piece.ids))
        made.part(2)[line, : len(piece.reference)] = 1
    made.guidance.fill_(2.0)
    return made


@pytest.mark.parametrize("guided", [True, False])
def test_rows_behind_a_sequence_may_hold_anything(model, guided):
    turbo = Turbo(model)
    schedule = turbo.schedule(Settings(5))

    def sampled(pieces, rows, fill, *, padded):
        return turbo.owned(turbo.sampler.sample, inputs_of(pieces, rows, fill), schedule, guided=guided, padded=padded)

    pieces = [Piece(torch.randn(30, 100), [1, 2, 3, 4, 5], frames, torch.randn(frames, 100)) for frames in (90, 61)]
    results = [sampled(pieces, 128, fill, padded=True) for fill in (0.0, 1e4, NAN, float("inf"))]
    for line, piece in enumerate(pieces):
        alone = sampled([piece], piece.frames, 0.0, padded=False)[0]
        for result in results:
            assert torch.equal(result[line, : piece.frames], results[0][line, : piece.frames])
            assert (result[line, : piece.frames] - alone).abs().max() <= CLOSE


def test_keys_behind_a_sequence_have_no_part_in_attention_even_if_they_are_large():
    query, key, value = (torch.randn(2, 40, 2, 64) for _ in range(3))
    lengths = torch.tensor([40, 23])
    mask = (torch.arange(40) < lengths[:, None])[:, None, None]
    plain = arithmetic.attention(query, key, value, lengths, mask)
    key[1, 23:] = 1e4
    value[1, 23:] = -1e4
    assert torch.equal(arithmetic.attention(query, key, value, lengths, mask)[1, :23], plain[1, :23])


@pytest.mark.parametrize("idea", ["tables", "hoists", "rotary-table", "fused-qkv", "one-convolution"])
def test_leaving_an_idea_out_does_not_change_the_mel(model, idea):
    piece = Piece(torch.randn(30, 100), [1, 2, 3], 77, torch.randn(77, 100))
    made = [Turbo(model, without=without).mels([piece], Settings(6)) for without in ((), (idea,))]
    assert (made[0] - made[1]).abs().max() <= CLOSE


def test_the_time_grid_is_upstreams_in_fp32():
    assert time_grid(7, None, True).tolist() == [number / 32 for number in (0, 2, 4, 6, 8, 16, 24, 32)]
    grid = time_grid(32, -1.0, True)
    assert grid.dtype == torch.float32
    assert (grid[1:] > grid[:-1]).all()
    assert grid[0] == 0
    assert grid[-1] == pytest.approx(1)


def test_tables_hold_what_upstreams_norms_compute(model):
    turbo = Turbo(model)
    schedule = make_schedule(turbo.flow, 7, -1.0, True)
    dit = model.transformer
    with torch.inference_mode():
        embedded = dit.time_embed(torch.tensor(schedule.times[3:4]))
        shift, scale, gate, *_ = dit.transformer_blocks[0].attn_norm.linear(torch.nn.functional.silu(embedded)).chunk(6, dim=-1)
    assert torch.allclose(schedule.opening[3], torch.cat((shift, 1 + scale)), atol=1e-6)
    assert torch.allclose(schedule.layers[3, 0, 0], gate[0], atol=1e-6)
    assert schedule.layers.shape == (7, 2, 6, 64)


@pytest.mark.parametrize("frames", [2, 9, 100])
def test_the_vocoder_gives_upstreams_sound_and_ignores_what_stands_behind_a_mel(frames):
    vocos = models.vocos()
    vocoder = read_vocoder(vocos)
    mel = torch.randn(1, frames, 100)
    with torch.inference_mode():
        want = vocos.decode(mel.transpose(1, 2))
        assert torch.allclose(decode(vocoder, mel, None), want, atol=1e-5)
        for fill in (0.0, 1e4, NAN):
            padded = torch.cat((mel, torch.full((1, 30, 100), fill)), dim=1)
            valid = (torch.arange(frames + 30) < frames)[None, :, None]
            assert torch.allclose(decode(vocoder, padded, valid)[:, : want.shape[1]], want, atol=1e-5)
    _, decoder = accelerate(models.small(), vocos)
    assert torch.allclose(decoder.decode(mel.transpose(1, 2)), want, atol=1e-5)


def test_another_vocoder_is_refused_by_name():
    vocos = models.vocos()
    vocos.head.istft.padding = "same"
    with pytest.raises(UnsupportedModelError, match="ISTFTHead"):
        Turbo(models.small(), vocos)
    other = models.vocos()
    other.backbone.convnext[1].act = torch.nn.ReLU()
    with pytest.raises(UnsupportedModelError, match="VocosBackbone"):
        Turbo(models.small(), other)


def test_the_cost_of_a_step_is_that_of_the_published_formula():
    turbo = Turbo(models.of_config("F5TTS_v1_Base"))
    flow = dataclasses.replace(turbo.flow, blocks=turbo.flow.blocks * 11)  # the config has 22
    for frames in (500, 1218, 1406):
        assert flop_per_step(flow, frames) == pytest.approx(2 * frames * (378.9e6 + 90_112 * frames), rel=1e-3)


def test_the_samplers_thread_is_its_own_and_answers_from_several(model):
    turbo = Turbo(model)
    assert isinstance(turbo.sampler, Sampler)
    piece = Piece(torch.randn(20, 100), [1, 2], 50, torch.randn(50, 100))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: turbo.mels([piece], Settings(4)), range(8)))
    assert all(torch.equal(one, made[0]) for one in made)
    turbo.close()


def test_upstreams_own_inference_speaks_through_it_to_the_same_sound():
    from f5_tts.infer.utils_infer import infer_batch_process

    model, vocos = models.small(), models.vocos()
    reference = (torch.randn(1, 24_000, generator=torch.Generator().manual_seed(4)) * 0.05, 24_000)
    made = []
    for sampler, decoder in ((model, vocos), accelerate(model, vocos)):
        torch.manual_seed(3)
        chunk = ["a text of one piece."]
        made.append(next(infer_batch_process(reference, "hello there. ", chunk, sampler, decoder, progress=None, nfe_step=5, device="cpu")))
    (audio, rate, mel), (fast_audio, fast_rate, fast_mel) = made
    assert rate == fast_rate
    assert abs(fast_mel - mel).max() <= CLOSE
    assert abs(fast_audio - audio).max() <= CLOSE
