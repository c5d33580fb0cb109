import math

import pytest

from lab import texts, voices
from lab.bench import text_sets
from lab.bench.text_sets import TARGETS, choose_texts
from lab.engine.weights import resolve, vocabulary
from lab.errors import LabError


@pytest.mark.parametrize("voice", voices.bundled_voices(), ids=lambda voice: voice.id)
@pytest.mark.parametrize("name", TARGETS)
def test_a_set_takes_two_texts_of_its_length_in_every_bundled_voice(voice, name):
    chosen = choose_texts(name, voice.seconds, voice.transcript)
    assert len(chosen) == 2
    assert all(abs(math.log(text.estimated_seconds / TARGETS[name])) < math.log(1.2) for text in chosen)
    if name == "long":
        assert all(18 <= text.estimated_seconds <= 30 for text in chosen)


def test_every_text_is_clean_and_can_be_said_with_the_demo_weights():
    known = vocabulary(resolve("demo"))
    for text in text_sets._own():
        said = text_sets._pool()[text]
        assert texts.check(said, vocabulary=known, vocabulary_name="demo", estimated_seconds=1, max_seconds=120) == said


def test_the_extended_test_sentence_is_a_set_and_one_of_the_mixed():
    voice = voices.default_voice("demo")
    (extended,) = choose_texts("extended", voice.seconds, voice.transcript)
    assert extended.id == "ishowtts-extended"
    assert extended.text in {text.text for text in choose_texts("mixed", voice.seconds, voice.transcript)}


def test_mixed_is_one_set_of_all_lengths():
    voice = voices.default_voice("demo")
    chosen = choose_texts("mixed", voice.seconds, voice.transcript)
    assert {text.set for text in chosen} == {"mixed"}
    assert len({text.id for text in chosen}) == len(chosen) == 7


def test_a_single_text_is_a_set_of_its_own_name():
    assert [(text.id, text.set) for text in choose_texts("birch, harvard", 4.4, "A reference of some length.")] == [
        ("birch", "birch"),
        ("harvard", "harvard"),
    ]


@pytest.mark.parametrize(("names", "message"), [("", "Choose texts"), ("huge", "no text or set 'huge'"), ("short,short", "named twice")])
def test_a_name_that_means_nothing_is_refused(names, message):
    with pytest.raises(LabError, match=message):
        choose_texts(names, 4.4, "A reference.")
