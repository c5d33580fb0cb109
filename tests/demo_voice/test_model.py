"""Upstream's modules as they are trained and exported."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lab.demo_voice import model as models
from lab.demo_voice.sentences import CHARACTERS
from lab.demo_voice.training import Settings, rate_at
from tests.demo_voice.small import small as a_small_dit
from tests.demo_voice.small import small_config


@pytest.fixture(scope="module", autouse=True)
def small():
    return a_small_dit().eval()


@given(st.integers(1, 40), st.data())
@settings(max_examples=80, deadline=None)
def test_a_text_is_spread_over_its_frames_as_upstream_spreads_it(frames, data):
    from f5_tts.model.backbones.dit import TextEmbedding

    lengths = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=1, max_size=4)))
    targets = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=len(lengths), max_size=len(lengths))))
    text = torch.randn(len(lengths), frames, 3)
    mask = torch.arange(frames)[None] < lengths[:, None]
    assert torch.equal(models.spread(text, mask, targets), TextEmbedding.average_upsample_text_by_mask(None, text, mask, targets))


def test_the_architecture_fits_the_limits():
    model, vocoder = models.cfm(models.config()), models.vocoder()
    parameters = [sum(value.numel() for value in module.state_dict().values()) for module in (model, vocoder)]
    assert parameters[0] < 20e6
    assert 2 * sum(parameters) < 34.4e6  # bytes in FP16; the clips are 0.6 MB


def test_capital_letters_are_heard_like_small_ones_after_the_export(small, tmp_path):
    state = models.exported_state(small.state_dict())
    exported = models.cfm(small_config(), models.VOCABULARY).eval()
    exported.load_state_dict(state)
    made = [
        exported.sample(torch.zeros(1, 4, 100), [list(text)], 24, steps=2, cfg_strength=2.0, seed=0)[0]
        for text in ("Good Day!", "good day!", "good dax!")
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    back = models.imported_state(state)
    assert back["transformer.text_embed.text_embed.weight"].shape[0] == 1 + len(CHARACTERS)
    for name, value in small.state_dict().items():
        assert torch.allclose(back[name].float(), value.float(), atol=2e-3)


def test_what_is_exported_is_what_upstream_loads(tmp_path):
    from f5_tts.infer.utils_infer import load_model
    from f5_tts.model import DiT

    config = models.config()
    model = models.cfm(config)
    save_file(models.exported_state(model.state_dict()), tmp_path / "model.safetensors")
    models.write_vocabulary(tmp_path / "vocab.txt")
    loaded = load_model(
        DiT, config["model"]["arch"], str(tmp_path / "model.safetensors"), vocab_file=str(tmp_path / "vocab.txt"), device="cpu"
    )
    assert loaded.vocab_char_map["q"] == CHARACTERS.index("q")
    assert loaded.vocab_char_map["Q"] == len(CHARACTERS) + 16
    weight = loaded.transformer.text_embed.text_embed.weight
    assert torch.equal(weight[1 + loaded.vocab_char_map["q"]], weight[1 + loaded.vocab_char_map["Q"]])


def test_the_learning_rate_rises_stays_and_falls_to_nothing(tmp_path):
    plan = Settings(tmp_path, 1_000, rate=1.0, warm_up=100, falling=0.4)
    rates = np.array([rate_at(step, plan) for step in range(1_001)])
    assert rates[0] == pytest.approx(0.01)
    assert (rates[99:600] == 1.0).all()
    assert (np.diff(rates[600:]) <= 0).all()
    assert rates[1_000] == 0.0
