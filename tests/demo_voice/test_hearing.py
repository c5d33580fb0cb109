"""Word errors by hand, and what the recogniser hears."""

import numpy as np
import pytest

from lab.demo_voice.hearing import hear, word_errors, words_of
from lab.demo_voice.likeness import levels, likeness
from lab.demo_voice.synthesizers import SPEAKERS, say
from tests.demo_voice.packages import needs_packages


@pytest.mark.parametrize(
    ("heard", "rate", "first", "rest"),
    [
        ("the cat sat down", 0, 0, 0),
        ("a cat sat down", 1 / 4, 1 / 2, 0),  # a substitution at the first word
        ("cat sat down", 1 / 4, 1 / 2, 0),  # the first is missing
        ("the cat sat", 1 / 4, 0, 1 / 2),  # the last is missing
        ("oh the cat sat down", 1 / 4, 1 / 2, 0),  # one more before the first
        ("the cat sat right down", 1 / 4, 0, 1 / 2),
        ("", 1, 1, 1),
    ],
)
def test_errors_are_counted_at_the_first_two_words_and_at_the_rest(heard, rate, first, rest):
    found = word_errors(["The cat sat down."], [heard])
    assert (found.rate, found.first, found.rest, found.words) == (rate, first, rest, 4)


def test_errors_of_several_texts_are_those_of_all_their_words():
    found = word_errors(["One two.", "Three four five six."], ["one two", "three for five"])
    assert found.rate == pytest.approx(2 / 6)
    assert found.first == pytest.approx(1 / 4)


def test_words_are_letters_and_apostrophes():
    assert words_of('"Don\'t!" she said -- twice.') == "don't she said twice"


def test_silence_is_heard_as_nothing():
    assert hear(np.zeros(12_000, np.float32)).text == ""


def test_a_clip_is_like_itself_and_quiet_where_it_is_silent():
    draw = np.random.default_rng(0)
    tone = (0.2 * np.sin(np.arange(24_000) * 0.05) + 0.01 * draw.normal(size=24_000)).astype(np.float32)
    clip = np.concatenate([tone, np.zeros(12_000, np.float32), tone, np.zeros(6_000, np.float32)])
    other = (0.1 * draw.normal(size=len(clip))).astype(np.float32)
    found = likeness(clip, clip, other, last_word=2.5)
    assert found.own == 0.0
    assert found.other > 5
    assert found.quiet > 0.9 * found.silent > 40
    assert found.after_db < -60


def test_a_pause_that_a_clip_does_not_make_is_counted_once():
    draw = np.random.default_rng(0)
    tone = (0.2 * np.sin(np.arange(24_000) * 0.05) + 0.01 * draw.normal(size=24_000)).astype(np.float32)
    pause = np.zeros(6_000, np.float32)
    own = np.concatenate([tone, pause, tone, pause, tone[::-1]])
    clip = np.concatenate([tone, tone, pause, tone[::-1]])
    found = likeness(clip, own, own, last_word=3.0)
    assert 15 < found.quiet >= found.silent - 3


@needs_packages
def test_a_text_of_two_words_is_heard_whatever_silence_follows():
    speech = say(SPEAKERS[0], ["come in."])[0].samples
    faint = (1e-4 * np.random.default_rng(0).normal(size=len(speech) * 3)).astype(np.float32)
    alone, followed = hear(speech), hear(np.concatenate([faint, speech, faint]))
    assert alone.text == followed.text == "come in"
    assert followed.end == pytest.approx(alone.end + len(faint) / 24_000, abs=0.03)


def test_noise_after_the_last_word_and_in_pauses_is_found():
    draw = np.random.default_rng(0)
    tone = (0.2 * np.sin(np.arange(24_000) * 0.05)).astype(np.float32)
    quiet = np.concatenate([tone, np.zeros(12_000, np.float32), tone, np.zeros(6_000, np.float32)])
    noisy = quiet + (0.05 * draw.normal(size=len(quiet))).astype(np.float32)
    found = likeness(noisy, quiet, quiet, last_word=2.5)
    assert found.quiet < 0.2 * found.silent
    assert found.after_db > -15


def test_levels_are_below_the_loud_ones():
    samples = np.concatenate([np.full(24_000, 0.5, np.float32), np.full(2_400, 0.05, np.float32)])
    found = levels(samples)
    assert len(found) == len(samples) // 256 + 1
    assert found[:80].max() == pytest.approx(0, abs=0.1)
    assert found[-4] == pytest.approx(-20, abs=0.5)
