"""What is learnt beside the flow."""

import pytest
import torch

from lab.demo_voice import model as models
from lab.demo_voice.listener import Listener
from lab.demo_voice.step import Dropped, Heard, Step
from lab.demo_voice.synthesizers import PHONES
from tests.demo_voice.small import small


@pytest.fixture
def model():
    made = small(depth=3)
    made.listener = Listener(64)
    made.listener.listen(made.transformer)
    return made


def heard(model, phones):
    x = torch.randn(2, 30, 100)
    model.transformer(x=x, cond=x, text=torch.randint(0, 30, (2, 10)), time=torch.tensor([0.1, 0.7]))
    return model.listener.loss(phones)


def test_what_is_heard_in_the_middle_teaches_what_comes_before_and_nothing_behind(model):
    heard(model, torch.randint(0, len(PHONES), (2, 30))).backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert any(name.startswith("transformer.text_embed") for name in learnt)
    assert any(name.startswith("transformer.transformer_blocks.1") for name in learnt)
    assert not any(name.startswith(("transformer.transformer_blocks.2", "transformer.proj_out")) for name in learnt)


def test_nothing_is_heard_twice(model):
    heard(model, torch.zeros(2, 30, dtype=torch.long))
    with pytest.raises(AssertionError):
        model.listener.loss(torch.zeros(2, 30, dtype=torch.long))


def test_nothing_of_it_is_exported(model):
    assert any(name.startswith("listener.") for name in model.state_dict())
    assert not any("listener" in name for name in models.exported_state(model.state_dict()))


def test_steps_learn_phones_where_there_is_a_text(model):
    phones = torch.randint(0, len(PHONES), (200,)).to(torch.uint8)
    step = Step(
        model,
        model,
        [torch.optim.AdamW(model.parameters(), torch.tensor(0.0), fused=True)],
        torch.randn(200, 100),
        False,
        Heard(model.listener, phones, 0.5),
    )
    places, text = torch.arange(64).reshape(2, 32), torch.full((2, 10), 3)
    step.gradients(places, text, Dropped(True, True))
    assert not model.listener.names.weight.grad.any()
    step.loss()
    assert step.phone_loss == 0
    losses = []
    for _ in range(12):
        step.gradients(places, text, Dropped(False, False))
        assert model.listener.names.weight.grad.any()
        step.change(1e-2, 0.9)
        step.loss()
        losses.append(step.phone_loss)
    assert losses[-1] < 0.8 * losses[0]
