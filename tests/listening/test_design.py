"""Which trials listeners get: both orders, balanced sides, catches in between, and answers that are answers."""

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.listening.balance import balanced_sides, couples, sides_at, spread, williams_row
from lab.listening.design import check_answer, following, length, must_hear, plan
from lab.listening.model import TYPES, StoredRating, StoredTrial, StudyError
from tests.listening.manifests import manifest


def of(trials, kind):
    return [trial for trial in trials if trial.kind == kind]


@pytest.mark.parametrize("size", range(1, 9))
def test_over_the_rows_of_a_williams_square_each_condition_stands_and_follows_equally_often(size):
    rows = [williams_row(size, row) for row in range(size if size % 2 == 0 else 2 * size)]
    for place in range(size):
        assert len(set(Counter(row[place] for row in rows).values())) == 1
    followed = Counter(pair for row in rows for pair in pairwise(row))
    assert len(followed) == size * (size - 1)
    assert len(set(followed.values())) <= 1


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 200), st.integers(0, 100))
def test_couples_are_asked_in_both_orders_and_never_more_often_than_needed(count, items, start, seed):
    made = couples(count, items, start, random.Random(seed))
    assert len(made) == count
    both = Counter(made)
    for item in {item for item, _ in made}:
        assert abs(both[item, True] - both[item, False]) <= 1
    assert sum(abs(both[item, True] - both[item, False]) for item in range(items)) == count % 2
    sizes = [sum(both[item, flipped] for flipped in (True, False)) for item in range(items)]
    assert max(sizes) - min(sizes) <= 2


def test_over_listeners_each_order_of_each_pair_comes_first_equally_often():
    first = Counter()
    for listener in range(16):
        seen = set()
        for item, flipped in couples(8, 8, listener * 4, random.Random(listener)):
            if item not in seen:
                first[item, flipped] += 1
                seen.add(item)
    assert set(first.values()) == {4}


@given(st.integers(0, 80), st.integers(0, 50), st.integers(0, 9))
def test_sides_and_the_twin_of_x_are_balanced_within_a_listener(count, offset, seed):
    made = balanced_sides(count, offset, random.Random(seed))
    counts = Counter(made)
    assert sum(counts.values()) == count
    if count >= 4:
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_series_without_an_end_is_balanced_every_eight_trials_and_comes_out_the_same_again():
    made = [sides_at(place, 3, "seed") for place in range(40)]
    assert made == [sides_at(place, 3, "seed") for place in range(40)]
    for block in range(5):
        assert set(Counter(made[8 * block : 8 * block + 8]).values()) == {2}
    assert made != [sides_at(place, 3, "another") for place in range(40)]


@given(st.integers(1, 60), st.integers(0, 10), st.integers(0, 99))
def test_extras_are_spread_over_the_trials_and_none_comes_first(main, extras, seed):
    made = spread(["main"] * main, list(range(extras)), random.Random(seed))
    assert [item for item in made if item == "main"] == ["main"] * main
    assert sorted(item for item in made if item != "main") == list(range(extras))
    assert made[0] == "main"


@pytest.mark.parametrize("kind", TYPES)
def test_a_plan_has_practice_first_and_the_asked_number_of_trials_that_count(kind):
    study, _ = manifest(kind, trials=16)
    trials = plan(study, 5)
    assert [trial.kind for trial in trials[:2]] == ["practice", "practice"]
    assert not of(trials[2:], "practice")
    assert len(of(trials, "main")) == (1 if kind == "staircase" else 16)
    if kind not in ("mushra", "staircase"):
        assert len(of(trials, "yardstick")) == 2
        expected = [study.units[trial.unit].expects for trial in of(trials, "catch")]
        assert expected.count("a") == 2
        assert expected.count("same") == (1 if kind in ("ab", "ccr") else 0)
        assert length(study) == len(trials)
    assert plan(study, 5) == trials
    assert all(trial.slots and len(trial.slots) == len(trial.labels) for trial in trials)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "staircase"])
@pytest.mark.parametrize("trials", [1, 3, 5, 16, 41])
def test_how_long_a_test_is_can_be_said_without_drawing_it_up(kind, trials):
    for extras in (True, False):
        study, _ = manifest(kind, trials=trials, extras=extras)
        assert {len(plan(study, listener)) for listener in range(3)} == {length(study)}


@pytest.mark.parametrize("kind", ["ab", "ccr"])
def test_a_listener_meets_every_pair_in_both_orders(kind):
    study, _ = manifest(kind, trials=16, texts=8)
    shown = Counter((trial.unit, trial.slots[0] == study.units[trial.unit].stimuli[0]) for trial in of(plan(study, 3), "main"))
    assert set(shown.values()) == {1}
    assert len({unit for unit, _ in shown}) == 8


@pytest.mark.parametrize("kind", ["abx", "staircase"])
def test_x_repeats_one_of_the_two_and_which_one_is_balanced(kind):
    study, _ = manifest(kind, trials=16)
    trials = [trial for listener in range(8) for trial in plan(study, listener)]
    for trial in trials:
        assert trial.labels == ("A", "B", "X")
        assert trial.slots[2] == trial.slots["AB".index(trial.x)]
        assert set(trial.slots) == set(study.units[trial.unit].stimuli)
    if kind == "abx":
        assert Counter(trial.x for trial in of(trials, "main")) == {"A": 64, "B": 64}


def test_over_listeners_every_pair_is_heard_equally_often():
    study, _ = manifest("abx", trials=6, texts=4, configs=3)
    units = Counter(trial.unit for listener in range(8) for trial in of(plan(study, listener), "main"))
    assert set(units.values()) == {6}


def test_in_ratings_of_single_clips_each_configuration_stands_in_each_place_equally_often():
    study, _ = manifest("acr", trials=9, texts=3, configs=3)
    places = Counter()
    for listener in range(6):
        main = of(plan(study, listener), "main")
        assert len({trial.unit for trial in main}) == 9
        for place, trial in enumerate(main):
            places[place, study.stimuli[trial.slots[0]].config] += 1
    assert set(places.values()) == {2}


def test_in_a_mushra_each_condition_stands_under_each_letter_equally_often_and_the_open_reference_first():
    study, _ = manifest("mushra", trials=2, texts=2, configs=3)
    letters = Counter()
    for listener in range(12):
        for trial in of(plan(study, listener), "main"):
            unit = study.units[trial.unit]
            assert trial.labels[0] == "Reference"
            assert trial.slots[0] == unit.stimuli[0]
            assert sorted(trial.slots[1:]) == sorted(unit.stimuli[1:])
            for place, slot in enumerate(trial.slots[1:]):
                letters[place, unit.stimuli[1:].index(slot)] += 1
    assert set(letters.values()) == {4}


def walk(study, listener, answers):
    """A whole staircase; `answers(level)` says whether a trial of that level is right."""
    trials = [StoredTrial(number, shown) for number, shown in enumerate(plan(study, listener))]
    while True:
        shown = trials[-1].presentation
        right = shown.kind != "main" or answers(study.units[shown.unit].level)
        rated = StoredRating(shown.x if right else {"A": "B", "B": "A"}[shown.x], {}, 1.0, "", 0, datetime.now(UTC))
        trials[-1] = StoredTrial(len(trials) - 1, shown, rated)
        trials[:-1] = [trial if trial.rating else StoredTrial(trial.number, trial.presentation, rated) for trial in trials[:-1]]
        if (more := following(study, listener, trials)) is None:
            return trials
        trials.append(StoredTrial(len(trials), more))


def test_a_staircase_gets_harder_after_two_right_answers_has_catches_and_ends():
    study, _ = manifest("staircase", trials=40)
    trials = walk(study, 0, lambda level: level <= 7)
    levels = [study.units[trial.presentation.unit].level for trial in trials if trial.presentation.kind == "main"]
    assert levels[:5] == [4, 4, 5, 5, 6]
    assert max(levels) == 8
    catches = [place for place, trial in enumerate(trials) if trial.presentation.kind == "catch"]
    assert catches
    assert len(levels) <= 40


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("ab", ["A", "B", "none"], ["X", 1, None, ["A"]]),
        ("abx", ["A", "B"], ["none", "X", 0, {}]),
        ("acr", [1, 5], [0, 6, "5", 4.5, True]),
        ("ccr", [-3, 0, 3], [-4, 4, "0", False]),
    ],
)
def test_only_answers_to_the_question_are_taken(kind, good, bad):
    study, _ = manifest(kind)
    trial = plan(study, 0)[0]
    for answer in good:
        assert check_answer(study, trial, answer) == answer
    for answer in bad:
        with pytest.raises(StudyError):
            check_answer(study, trial, answer)


def test_a_mushra_wants_every_slider_and_nothing_else():
    study, _ = manifest("mushra")
    trial = plan(study, 0)[0]
    whole = dict.fromkeys(trial.labels[1:], 50)
    assert check_answer(study, trial, whole) == whole
    for bad in ({}, {**whole, "Reference": 100}, {**whole, "A": 101}, {**whole, "A": 50.5}, {**whole, "A": True}, "A"):
        with pytest.raises(StudyError):
            check_answer(study, trial, bad)


def test_a_single_clip_has_to_be_heard_whole_and_of_several_two_seconds_each():
    study, _ = manifest("acr", seconds=4.0)
    assert must_hear(study, plan(study, 0)[0]) == {"1": 3.7}
    study, _ = manifest("abx", seconds=4.0)
    assert must_hear(study, plan(study, 0)[0]) == {"A": 2.0, "B": 2.0, "X": 2.0}
