"""A step of the training does what upstream's and torch's own parts do, without waiting for the device."""

import copy
import random

import pytest
import torch

from lab.demo_voice.graphs import beside_the_default_stream
from lab.demo_voice.muon import Muon
from lab.demo_voice.step import Dropped, Step, flow_loss
from tests.demo_voice.small import small


@pytest.fixture
def model():
    return small()


@pytest.mark.parametrize("dropped", [Dropped(False, False), Dropped(True, False), Dropped(True, True)])
def test_the_loss_is_that_of_upstream_for_full_rows(model, dropped):
    mel, text = torch.randn(3, 90, 100), torch.randint(0, 30, (3, 40))
    text[1, 25:] = -1
    model.audio_drop_prob, model.cond_drop_prob = float(dropped.audio), float(dropped.text)
    torch.manual_seed(5)
    random.seed(5)
    theirs, _, _ = model(mel, text=text)
    model.audio_drop_prob, model.cond_drop_prob = 0.3, 0.2
    torch.manual_seed(5)
    ours = flow_loss(model, mel, text, dropped)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert (model.audio_drop_prob, model.cond_drop_prob) == (0.3, 0.2)
    theirs.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    ours.backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(expected, found, strict=True))


def test_times_are_early_by_the_power_that_is_asked_for(model, monkeypatch):
    seen = []
    inside = model.transformer.forward
    monkeypatch.setattr(
        model.transformer, "forward", lambda *given, time, **others: (seen.append(time), inside(*given, time=time, **others))[1]
    )
    for early in (1.0, 3.0):
        torch.manual_seed(5)
        flow_loss(model, torch.randn(64, 16, 100), torch.zeros(64, 4, dtype=torch.long), Dropped(False, False), early)
    assert torch.allclose(seen[1], seen[0] ** 3)
    assert 0.3 < seen[0].mean() < 0.7


def test_matrices_together_are_changed_as_torch_changes_them_one_by_one():
    torch.manual_seed(0)
    shapes = [(48, 48), (96, 48), (48, 96), (48, 48)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in ours]
    mine = Muon(ours, torch.tensor(0.01))
    torchs = torch.optim.Muon(theirs, 0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        mine.step()
        torchs.step()
    for one, other in zip(ours, theirs, strict=True):  # torch iterates in BF16
        assert torch.allclose(one, other, atol=4e-3)


def test_both_halves_move_the_values_and_their_average(model):
    average = copy.deepcopy(model).eval().requires_grad_(False)
    before = copy.deepcopy(average)
    rate = torch.tensor(0.0)
    step = Step(model, average, [torch.optim.AdamW(model.parameters(), rate, fused=True)], torch.randn(200, 100), captured=False)
    step.gradients(torch.arange(180).reshape(2, 90), torch.full((2, 100), 3), Dropped(False, False))  # more text than frames is cut
    step.change(0.01, 0.75)
    name = "transformer.proj_out.weight"
    old, new, kept = (dict(of.named_parameters())[name] for of in (before, model, average))
    assert not torch.equal(old, new)
    assert torch.allclose(kept, 0.75 * old + 0.25 * new, atol=1e-6)
    first = step.loss()
    assert first > 0
    step.gradients(torch.arange(180).reshape(2, 90), torch.full((2, 100), 3), Dropped(False, False))
    assert step.loss() != first


def one_step(model):
    average = copy.deepcopy(model).eval().requires_grad_(False)
    step = Step(model, average, [torch.optim.SGD(model.parameters(), torch.tensor(0.0))], torch.randn(200, 100), captured=False)
    step.gradients(torch.arange(180).reshape(2, 90), torch.full((2, 30), 3), Dropped(False, False))
    return step


def test_gradients_far_above_the_usual_are_scaled_down_to_twice_that(model):
    step = one_step(model)
    step.change(0.01, 0.5)
    usual = step.usual.item()
    assert usual > 0
    step._gradients.mul_(100)
    step.change(0.01, 0.5)
    assert step._gradients.norm().item() == pytest.approx(2 * usual, rel=1e-3)
    assert step.usual.item() == pytest.approx(usual * 1.02, rel=1e-3)


def test_gradients_that_are_no_numbers_change_nothing(model):
    step = one_step(model)
    step.change(0.01, 0.5)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    usual = step.usual.item()
    step._gradients[7] = float("nan")
    step.change(0.01, 0.5)
    assert step.usual.item() == usual
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_warming_up_changes_nothing(model):
    average = copy.deepcopy(model).eval().requires_grad_(False)
    step = Step(model, average, [torch.optim.AdamW(model.parameters(), 1e-3)], torch.randn(200, 100), captured=False)
    before = [parameter.clone() for parameter in model.parameters()]
    step.warm_up([(2, 90), (1, 120)], rank=1)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert step.loss() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_captured_steps_are_those_that_run_as_they_are(model):
    ends = []
    for captured in (False, True):
        mine = copy.deepcopy(model).cuda()
        average = copy.deepcopy(mine).eval().requires_grad_(False)
        torch.manual_seed(3)
        mel = torch.randn(400, 100, device="cuda")
        with beside_the_default_stream(mel.device):
            rate = torch.tensor(0.0, device="cuda")
            optimizers = [torch.optim.AdamW(mine.parameters(), rate, fused=True, capturable=True)]
            step = Step(mine, average, optimizers, mel, captured=captured)
            losses = []
            for number in range(12):
                torch.manual_seed(number)
                places = torch.randint(0, 400, (2, 90 + 30 * (number % 2)))
                step.gradients(places, torch.full((2, 30), number % 5), Dropped(number % 3 == 0, number % 3 == 0))
                step.change(1e-3, 0.9)
                losses.append(step.loss())
        ends.append(losses)
    assert ends[0] == pytest.approx(ends[1], rel=2e-3)
