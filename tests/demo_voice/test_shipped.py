"""The voice that is in the repository, through the real engine: is it understood, and is it the right one."""

import numpy as np
import pytest

from lab.audio import SAMPLE_RATE
from lab.compare import make_request
from lab.config import parse
from lab.demo_voice.evaluation import sentences
from lab.demo_voice.hearing import hear, word_errors
from lab.demo_voice.likeness import likeness
from lab.demo_voice.sentences import readable
from lab.demo_voice.synthesizers import SPEAKERS, say, speaker
from lab.engine.pool import EnginePool
from lab.engine.weights import resolve
from lab.voices import bundled_voices
from tests.demo_voice.packages import needs_packages

pytestmark = pytest.mark.engine
WHO = [who.name for who in SPEAKERS]


@pytest.fixture(scope="module")
def said(cpu, warm_workers):
    """Three sentences by both voices, at the steps that the lab's configurations take, and at few."""
    chosen = ["Stay here.", *(next(one.text for one in sentences() if one.kind == kind) for kind in ("question", "comma"))]
    voices = {voice.id: voice for voice in bundled_voices()}
    with EnginePool(resolve("demo"), cpu, max_workers=1, command=warm_workers) as pool:
        return {
            (who, nfe): {
                text: pool.render(parse(f"upstream:nfe={nfe}"), make_request(pool, text, voices[f"demo-{who}"], 1)).samples()
                for text in chosen
            }
            for who in WHO
            for nfe in (7, 3)
        }


@pytest.fixture(scope="module")
def errors(said):
    """The share of words that are not understood."""
    return {key: word_errors(list(clips), [hear(samples).text for samples in clips.values()]).rate for key, clips in said.items()}


@pytest.mark.parametrize("who", WHO)
def test_each_voice_is_understood(errors, who):
    assert errors[who, 7] < 0.25


def test_fewer_steps_are_heard(errors):
    few, many = (np.mean([errors[who, nfe] for who in WHO]) for nfe in (3, 7))
    assert few > many + 0.05


@needs_packages
@pytest.mark.parametrize("who", WHO)
def test_the_voice_that_was_asked_for_speaks(said, who):
    other = next(name for name in WHO if name != who)
    texts = [readable(text) for text in said[who, 7]]
    for samples, own, another in zip(said[who, 7].values(), say(speaker(who), texts), say(speaker(other), texts), strict=True):
        found = likeness(samples, own.samples, another.samples, last_word=len(samples) / SAMPLE_RATE)
        assert found.own < found.other


def test_a_clip_of_the_shipped_voice_is_neither_silent_nor_clipped(said):
    for clips in said.values():
        for samples in clips.values():
            assert 0.05 < np.abs(samples).max() < 1.0
