"""What the synthesizers say, and when they say which phone."""

import numpy as np
import pytest

from lab.audio import SAMPLE_RATE
from lab.demo_voice.synthesizers import PHONES, SPEAKERS, prepared, say
from tests.demo_voice.packages import needs_packages


@needs_packages
@pytest.mark.parametrize("who", SPEAKERS, ids=lambda who: who.name)
def test_the_phones_of_a_sentence_are_where_they_sound_and_slow_down_with_it(who):
    usual, slow = (say(who, ["sasha pays."], pace)[0] for pace in (1.0, 1.2))
    for speech in (usual, slow):
        assert set(speech.phones) <= set(PHONES)
        assert [phone for phone in speech.phones if phone in ("s", "sh", "p")] == ["s", "sh", "p"]
        assert speech.ends == sorted(speech.ends)
        assert abs(speech.ends[-1] - len(speech.samples)) < 0.2 * SAMPLE_RATE
    assert len(slow.samples) == pytest.approx(1.2 * len(usual.samples), rel=0.1)
    crossings = np.diff(np.signbit(usual.samples)).astype(float)
    starts = dict(zip(usual.phones, [0, *usual.ends], strict=False))
    ends = dict(zip(usual.phones, usual.ends, strict=True))
    hissing = crossings[starts["sh"] : ends["sh"]].mean()
    assert hissing > 2 * crossings[starts["p"] : ends["p"] + SAMPLE_RATE // 10].mean()  # a hiss crosses zero far more often than a vowel


def test_phones_move_with_the_silence_that_is_cut_off():
    rate = 16_000
    sound = np.concatenate([np.zeros(rate), 0.5 * np.sin(np.arange(rate) * 0.3), np.zeros(rate)]).astype(np.float32)
    speech = prepared(sound, rate, [("pau", 0.5), ("pau", 1.0), ("aa", 1.5), ("x-unknown", 2.0), ("pau", 3.0)])
    assert speech.phones == ["pau", "aa", "pau", "pau"]  # the first had ended before
    lead = speech.ends[0]
    assert lead == pytest.approx(0.03 * SAMPLE_RATE, abs=50)
    assert speech.ends[1:] == [lead + SAMPLE_RATE // 2, lead + SAMPLE_RATE, len(speech.samples)]
    assert prepared(np.zeros(rate, np.float32), rate) is None
