"""A training that diverges goes back by itself."""

import math

import numpy as np
import torch

from lab.demo_voice.retreat import Retreat


def looks(retreat, losses):
    return [retreat.looked(loss) for loss in losses]


def test_it_goes_back_to_the_older_copy_at_a_lower_rate_when_the_loss_jumps():
    value = torch.zeros(3)
    retreat = Retreat(lambda: [value])
    for number in range(45):  # copies after 15, 30 and 45 looks, of which two are kept
        value.fill_(number)
        assert not retreat.looked(1.0 - number / 1_000)
    value.fill_(99.0)
    assert retreat.looked(2.0)
    assert value.tolist() == [29.0] * 3
    assert retreat.factor == 0.6
    value.fill_(99.0)
    assert retreat.looked(math.nan)  # and again to the same, if that did not help
    assert value.tolist() == [29.0] * 3
    assert retreat.factor == 0.6**2


def test_small_waves_and_a_bad_beginning_change_nothing():
    value = torch.ones(2)
    retreat = Retreat(lambda: [value])
    assert not any(looks(retreat, [math.nan, 5.0, 4.0, 3.0, 2.0, 1.5, 1.2]))
    assert not any(looks(retreat, [1.0, 1.1, 0.9, 1.15] * 20))
    assert retreat.factor == 1.0
    assert value.tolist() == [1.0, 1.0]


def test_a_loss_that_is_noisy_by_nature_does_not_make_it_go_back():
    draw = np.random.default_rng(0)
    value = torch.ones(1)
    retreat = Retreat(lambda: [value])
    assert not any(looks(retreat, draw.gamma(4, 0.25, 2_000)))  # half as much deviation as mean
    assert retreat.looked(10.0)


def test_nothing_is_copied_while_the_loss_is_on_its_way_up():
    value = torch.zeros(1)
    retreat = Retreat(lambda: [value])
    looks(retreat, [1.0] * 15)
    value.fill_(7.0)
    looks(retreat, [1.2] * 4 + [1.25] * 3)
    assert retreat.looked(3.0)
    assert value.item() == 0.0
