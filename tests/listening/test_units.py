from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.listening.gate_report import Pair
from lab.listening.model import Stimulus
from lab.listening.units import ANCHORS_OF, Material, make_units, pruned


def stimulus(text, config, role="system", sound=None):
    name = sound or f"{text}/{config}/{role}"
    return Stimulus(
        sha256=name, config=config, role=role, text=text, seed=1, source_sha256=name, gain_db=0, lufs=-23, peak_dbfs=-1, seconds=2
    )


def material(type, configs=("seven", "four"), texts=2, *, identical=(), left_out=(), seeded=True, practice=None, levels=None):
    """Stimuli as the gate makes them; `identical` and `left_out` are (text, configuration)."""
    stimuli, pairs = [], []
    for text in range(texts):
        a = len(stimuli)
        stimuli.append(stimulus(text, "ref"))
        others = [(config, "system") for config in configs] + ([("ref", "other seed")] if seeded else [])
        for config, role in others:
            same = (text, config) in identical and role == "system"
            stimuli.append(stimulus(text, config, role, f"{text}/ref/system" if same else None))
            state = "left out" if (text, config) in left_out and role == "system" else "ok"
            kind = "identical" if same else "perceptual"
            pairs.append(Pair(text, config, role, a, len(stimuli) - 1, kind, state, "", 0, 0, -40, -20, 3, 0))
        stimuli += [stimulus(text, "ref", role) for role in ANCHORS_OF[type]]
    return Material(type, tuple(configs), tuple(stimuli), tuple(pairs), levels or {}, practice)


def named(made, unit):
    """A unit's stimuli in words."""
    return [made.stimuli[place].config if made.stimuli[place].role == "system" else made.stimuli[place].role for place in unit.stimuli]


def of_kind(units, kind):
    return [unit for unit in units if unit.kind == kind]


@pytest.mark.parametrize("type", ["ab", "abx", "ccr"])
def test_a_paired_study_asks_about_every_configuration_in_every_text_the_reference_being_side_a(type):
    made = material(type)
    main = of_kind(make_units(made), "main")
    assert [(unit.text, unit.comparison, named(made, unit)) for unit in main] == [
        (text, config, ["ref", config]) for text in (0, 1) for config in ("seven", "four")
    ]


@pytest.mark.parametrize(("type", "expected"), [("ab", ["a", "same"]), ("ccr", ["a", "same"]), ("abx", ["a"]), ("staircase", ["a"])])
def test_catches_are_the_low_anchor_and_where_it_can_be_answered_an_identical_pair(type, expected):
    made = material(type, texts=1, seeded=type != "staircase", levels={"seven": 7, "four": 4})
    catches = of_kind(make_units(made), "catch")
    assert [unit.expects for unit in catches] == expected
    assert named(made, catches[0]) == ["ref", "anchor 3.5 kHz"]
    assert all(unit.comparison == "" for unit in catches)
    for unit in catches[1:]:
        a, b = (made.stimuli[place].sha256 for place in unit.stimuli)
        assert a == b


def test_an_identical_pair_is_never_asked_and_serves_as_a_catch():
    made = material("ab", identical={(0, "seven")})
    units = make_units(made)
    assert [(unit.text, unit.comparison) for unit in of_kind(units, "main")] == [(0, "four"), (1, "seven"), (1, "four")]
    same = [unit for unit in of_kind(units, "catch") if unit.expects == "same"]
    assert [named(made, unit) for unit in same] == [["ref", "seven"], ["ref", "ref"]]


def test_a_pair_that_the_gate_left_out_is_in_no_unit():
    made = material("abx", left_out={(0, "four"), (1, "four")})
    assert not [unit for unit in make_units(made) if "four" in named(made, unit)]


def test_a_study_whose_pairs_are_all_identical_has_no_units():
    assert make_units(material("abx", ("seven",), identical={(0, "seven"), (1, "seven")})) == ()


@pytest.mark.parametrize("type", ["ab", "abx", "ccr"])
def test_the_yardstick_is_the_reference_against_itself_with_another_seed(type):
    made = material(type)
    assert [named(made, unit) for unit in of_kind(make_units(made), "yardstick")] == [["ref", "other seed"]] * 2


def test_acr_asks_about_every_clip_alone():
    made = material("acr", texts=1)
    units = make_units(made)
    assert [named(made, unit) for unit in of_kind(units, "main")] == [["ref"], ["seven"], ["four"]]
    assert [named(made, unit) for unit in of_kind(units, "yardstick")] == [["other seed"]]
    assert [(named(made, unit), unit.expects) for unit in of_kind(units, "catch")] == [(["anchor 3.5 kHz"], "a")]
    assert [named(made, unit) for unit in of_kind(units, "practice")] == [["ref"], ["anchor 3.5 kHz"]]


def test_mushra_has_one_unit_per_text_with_open_and_hidden_reference_and_both_anchors():
    made = material("mushra")
    units = make_units(made)
    assert Counter(unit.kind for unit in units) == {"main": 2, "practice": 1}
    assert named(made, units[0]) == ["ref", "ref", "seven", "four", "other seed", "anchor 3.5 kHz", "anchor 7 kHz"]
    assert units[0].stimuli[0] == units[0].stimuli[1]


def test_mushra_skips_a_text_in_which_a_configuration_is_missing():
    made = material("mushra", left_out={(0, "four")})
    assert [unit.text for unit in of_kind(make_units(made), "main")] == [1]


def test_the_staircase_has_every_rung_in_every_text_its_top_being_the_reference_itself():
    levels = {"ref": 32, "seven": 7, "four": 4}
    made = material("staircase", seeded=False, levels=levels, identical={(0, "seven")})
    main = of_kind(make_units(made), "main")
    assert [(unit.text, unit.level, unit.comparison) for unit in main] == [
        (text, level, config) for text in (0, 1) for config, level in levels.items()
    ]
    assert named(made, main[0]) == ["ref", "ref"]
    practice = of_kind(make_units(made), "practice")
    assert [(named(made, unit), unit.level) for unit in practice] == [(["ref", "anchor 3.5 kHz"], 0), (["ref", "four"], 4)]


def test_the_practice_text_is_asked_about_in_practice_alone():
    made = material("abx", texts=3, practice=2)
    units = make_units(made)
    assert {unit.text for unit in units if unit.kind != "practice"} == {0, 1}
    practice = of_kind(units, "practice")
    assert [(unit.text, named(made, unit)) for unit in practice] == [(2, ["ref", "anchor 3.5 kHz"]), (2, ["ref", "seven"])]


def test_practice_falls_back_on_what_there_is():
    without = material("abx", practice=7)  # a practice text that did not come through
    assert {unit.text for unit in of_kind(make_units(without), "practice")} == {1}
    same = material("ab", texts=2, practice=1, identical={(1, "seven"), (1, "four")})
    practice = of_kind(make_units(same), "practice")
    assert [(unit.text, named(same, unit)) for unit in practice] == [(1, ["ref", "anchor 3.5 kHz"]), (0, ["ref", "seven"])]


def test_a_configuration_that_is_not_in_the_study_is_in_no_unit():
    made = material("acr", identical={(0, "seven"), (1, "seven")})
    units = make_units(replace(made, configs=("four",)))
    assert not [unit for unit in units if "seven" in named(made, unit)]


cells = st.tuples(st.integers(0, 2), st.sampled_from(["seven", "four"]))


@given(
    type=st.sampled_from(["ab", "abx", "acr", "ccr", "mushra"]),
    identical=st.sets(cells),
    left_out=st.sets(cells),
    practice=st.sampled_from([None, 2]),
)
def test_whatever_the_gate_leaves_units_are_of_one_text_and_never_of_what_was_left_out(type, identical, left_out, practice):
    made = material(type, texts=3, identical=identical, left_out=left_out, practice=practice)
    units = make_units(made)
    assert units == () or of_kind(units, "practice")
    for unit in units:
        clips = [made.stimuli[place] for place in unit.stimuli]
        assert {clip.text for clip in clips} == {unit.text}
        assert not any((clip.text, clip.config) in left_out and clip.role == "system" for clip in clips)
        if unit.kind == "main" and type in ("ab", "abx", "ccr"):
            assert clips[0].sha256 != clips[1].sha256
        if unit.kind != "practice":
            assert unit.text != practice


@given(identical=st.sets(cells), left_out=st.sets(cells))
def test_pruning_keeps_exactly_the_stimuli_that_are_heard_and_the_units_mean_the_same(identical, left_out):
    made = material("ab", texts=3, identical=identical, left_out=left_out)
    units = make_units(made)
    stimuli, moved = pruned(made.stimuli, units)
    assert {place for unit in moved for place in unit.stimuli} == set(range(len(stimuli)))
    for before, after in zip(units, moved, strict=True):
        assert [made.stimuli[place] for place in before.stimuli] == [stimuli[place] for place in after.stimuli]
