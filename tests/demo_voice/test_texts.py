"""What the corpus says, and what the evaluation asks."""

import random
from itertools import islice

import pytest

from lab.demo_voice import sources
from lab.demo_voice.evaluation import sentences
from lab.demo_voice.sentences import CHARACTERS, LONGEST, SHORTEST, Templates, corpus_texts, gloss_sentences, novel_sentences, readable
from lab.demo_voice.sources import SourceError
from lab.demo_voice.tools import ToolError, tool
from tests.demo_voice.packages import needs_packages


def test_titles_dashes_and_capitals_are_made_readable():
    assert readable("Mr. Knightley -- a man of sense -- said: “No!”") == 'mister knightley, a man of sense, said: "no!"'


@pytest.mark.parametrize("text", ["", "...", "1799", "café", "a [b] c"])
def test_what_the_model_cannot_read_is_left_out(text):
    assert readable(text) is None


def test_every_sentence_of_the_evaluation_is_readable_and_there_are_enough():
    texts = [sentence.text for sentence in sentences()]
    assert len(texts) == len(set(texts)) >= 40
    assert all(readable(text) for text in texts)
    assert {sentence.kind for sentence in sentences()} == {"plain", "question", "comma", "short", "long"}


@needs_packages
def test_no_sentence_of_the_evaluation_is_in_the_corpus():
    asked = {readable(sentence.text) for sentence in sentences()}
    prose = novel_sentences()
    assert not asked & set(prose)
    drawn = Templates(sources.lexicon(), random.Random(0))
    assert not asked & {drawn.sentence() for _ in range(5_000)}
    chosen = prose[:50]
    assert not set(chosen) & set(islice(corpus_texts(0, without=frozenset(chosen)), 5_000))


@needs_packages
def test_the_texts_of_a_corpus_are_readable_different_and_the_same_for_a_seed():
    texts = list(islice(corpus_texts(3), 2_000))
    assert len(set(texts)) == 2_000
    assert all(SHORTEST <= len(text) <= LONGEST and set(text) <= set(CHARACTERS) for text in texts)
    assert texts == list(islice(corpus_texts(3), 2_000))
    assert texts != list(islice(corpus_texts(4), 2_000))
    assert sum(len(text) < 10 for text in texts) > 20  # upstream speaks these at another speed
    assert sum(text.endswith("?") for text in texts) > 100


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(SourceError, match=r"apt-get install .*festvox-us-slt-hts.* && apt-get download r-cran-janeaustenr"):
        sources.Source("nothing", "", "", "/nowhere/at/all").file()


def test_a_missing_module_is_named_with_the_command_that_installs_it():
    with pytest.raises(ToolError, match=r"no_such_ears is not installed. Use: pip install -r requirements-dev.txt"):
        tool("no_such_ears")


@needs_packages
def test_definitions_and_examples_of_wordnet_are_sentences_that_the_model_can_read():
    definitions, examples = gloss_sentences()
    assert "she waved to her friends." in examples
    assert "ask to come." in definitions
    assert len(examples) > 40_000
    assert all(readable(text) and text[-1] in ".!?" for text in (*definitions, *examples))
