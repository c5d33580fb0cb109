"""Training rows are exactly as long as they have to be, and say what they sound."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.demo_voice.rows import LENGTHS, SILENCE, Rows, Utterances
from lab.demo_voice.sentences import CHARACTERS


@st.composite
def spoken(draw):
    lengths = draw(st.lists(st.integers(20, 900), min_size=1, max_size=40))
    starts = np.cumsum([1, *lengths])[:-1]
    texts = [f"{chr(97 + number % 26)}" * (1 + length // 12) + "." for number, length in enumerate(lengths)]
    return Utterances.of(np.asarray(starts), np.asarray(lengths), texts)


@given(spoken(), st.integers(0, 5), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_row_has_whole_utterances_in_the_order_of_its_text_and_silence_between(who, seed, step):
    batch = Rows([[who]], 4_096, seed, 0, 2_000)[step]
    length = batch.frames.shape[1]
    assert length in LENGTHS
    assert batch.frames.shape[0] == batch.text.shape[0] == max(1, 4_096 // length)
    for places, codes in zip(batch.frames.numpy(), batch.text.numpy(), strict=True):
        said = "".join(CHARACTERS[code] for code in codes if code >= 0)
        found = []
        position = 0
        while position < length:
            if places[position] == SILENCE:
                position += 1
                continue
            index = int(np.flatnonzero(who.starts == places[position])[0])
            count = who.lengths[index]
            assert (places[position : position + count] == np.arange(count) + who.starts[index]).all()
            found.append(who.texts[index])
            position += count
        assert " ".join(found) == said


def test_a_batch_depends_on_seed_rank_and_step_alone_and_its_length_on_the_step():
    who = Utterances.of(np.asarray([1, 101, 301]), np.asarray([100, 200, 50]), ["one.", "two and three.", "four."])
    rows, again, other = (Rows([[who]], 4_096, seed, rank, 100) for seed, rank in ((1, 0), (1, 0), (1, 1)))
    for step in (0, 7, 50):
        assert torch.equal(rows[step].frames, again[step].frames)
        assert rows[step].frames.shape == other[step].frames.shape
    assert any(not torch.equal(rows[step].frames, other[step].frames) for step in range(5))


def test_rows_often_end_with_a_short_text_and_the_silence_that_upstream_plans_for_it():
    who = Utterances.of(np.asarray([1, 301]), np.asarray([300, 60]), ["this is a longer sentence.", "come in."])
    ends = []
    for step in range(60):
        for places, codes in zip(*(part.numpy() for part in Rows([[who]], 8_192, 0, 0, 100)[step]), strict=True):
            if "".join(CHARACTERS[code] for code in codes if code >= 0).endswith("come in."):
                ends.append(int((places[::-1] != SILENCE).argmax()))
    assert sum(end >= 60 for end in ends) > 20


def many(base, letter):
    lengths = np.arange(100, 700)
    starts = base + np.cumsum([0, *lengths])[:-1]
    return Utterances.of(starts, lengths, [letter * (int(length) // 6) + "." for length in lengths])


def test_where_each_sound_is_follows_from_the_lengths_alone():
    usual, slow = many(1, "a"), many(1_000_000, "b")
    firsts = set()
    for step in range(20):
        for places, codes in zip(*(part.numpy() for part in Rows([[usual, slow]], 8_192, 0, 0, 100)[step]), strict=True):
            texts = "".join(CHARACTERS[code] for code in codes if code >= 0).split()
            assert len({text[0] for text in texts[1:]}) <= 1  # one pace, but for the first
            firsts.add((texts[0][0], texts[-1][0]))
            silent = places == SILENCE
            assert not silent[0]
            assert silent[-2:].sum() <= 1
            bounds = np.flatnonzero(np.diff(silent.astype(int)))
            gaps = np.diff(bounds)[::2]
            assert set(gaps[: len(texts) - 1]) <= {5}
    assert {("a", "a"), ("a", "b"), ("b", "b")} <= firsts
