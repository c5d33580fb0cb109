"""Convolutions as products are those of upstream's layers."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.demo_voice import convolutions
from tests.demo_voice.small import small


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_groups_of_channels_are_convolved_as_torch_does_it(batch, blocks, groups, each, half):
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(groups * each, groups * each, 2 * half + 1, groups=groups, padding=half)
    x = torch.randn(batch, 16 * blocks, groups * each)
    made = convolutions.grouped(x, layer.weight, layer.bias, groups)
    assert torch.allclose(made, layer(x.transpose(1, 2)).transpose(1, 2), atol=1e-5)


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_single_channels_are_convolved_as_torch_does_it(batch, frames, channels, half):
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(channels, channels, 2 * half + 1, groups=channels, padding=half)
    x = torch.randn(batch, frames, channels)
    made = convolutions.of_each_channel(x, layer.weight, layer.bias)
    assert torch.allclose(made, layer(x.transpose(1, 2)).transpose(1, 2), atol=1e-5)


def test_a_dit_gives_the_same_and_learns_the_same():
    theirs = small(depth=1).transformer
    ours = copy.deepcopy(theirs)
    convolutions.replace(ours)
    x, cond, text = torch.randn(2, 96, 100), torch.randn(2, 96, 100), torch.randint(0, 30, (2, 20))
    made = [one(x=x, cond=cond, text=text, time=torch.tensor([0.1, 0.7])) for one in (theirs, ours)]
    assert torch.allclose(*made, atol=1e-5)
    for one in made:
        one.square().sum().backward()
    for (name, one), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-3 * float(one.grad.abs().max())), name
