"""Verdicts of simulated listeners, and the document that page and command line share."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lab.listening import tracks, verdicts
from lab.listening.evidence import carried_by, running
from lab.listening.model import TYPES, StoredStudy, StudyError
from lab.listening.results import PEEKED, Results, results
from lab.listening.statistics.binomial import exact_p, upper_bound
from lab.listening.summary import cell
from lab.listening.verdicts import SCALES, Sample
from tests.listening.simulated import LATER, START, Respond, always, scores, session, study, taste, told


def judged(of: StoredStudy, *listeners: Respond, peek: bool = False, seed: int = 0, most: int | None = None) -> Results:
    return results(of, [session(of, number, one, seed=seed, most=most) for number, one in enumerate(listeners)], now=LATER, peek=peek)


def only(found: Results) -> dict[str, Any]:
    (row,) = found.document()["comparisons"]
    return row


def usual(kind: str) -> Respond:
    """A listener of `kind` who hears a little."""
    if kind in ("abx", "staircase"):
        return told(0.8)
    if kind == "ab":
        return taste(0.6, none=0.2)
    points = {
        "mushra": {"ref": 98, "other": 70, "third": 60, "seed": 88, "low": 10, "middle": 40},
        "acr": {"ref": 4, "other": 3, "third": 3, "seed": 4, "low": 1},
        "ccr": {"other": -1, "third": 0, "seed": 0, "low": -3},
    }
    return scores(points[kind], 0.7)


# --- the lock


def test_results_are_locked_while_the_study_is_open() -> None:
    of = study("abx", is_open=True)
    with pytest.raises(StudyError, match="locked while the study is open"):
        results(of, [], now=START)
    assert results(of, [], now=START, peek=True).document()["open"] is True
    assert results(dataclasses.replace(of, open_until=START), [], now=LATER).document()["open"] is False


@pytest.mark.parametrize("kind", TYPES)
def test_whoever_peeked_gets_anytime_valid_figures_for_good_and_no_p_value(kind: Any) -> None:
    def values(node: Any, key: str) -> list[Any]:
        if isinstance(node, dict):
            return [found for name, value in node.items() for found in ([value] if name == key else values(value, key))]
        return [found for value in node for found in values(value, key)] if isinstance(node, list) else []

    peeked = [judged(study(kind, "other", "third" if kind == "ab" else "more", peeked=True), *[usual(kind)] * 4)]
    peeked.append(judged(study(kind, is_open=True), *[usual(kind)] * 4, peek=True))
    for found in peeked:
        document = found.document()
        assert document["peeked"]
        assert [*values(document, "p_value"), *values(document, "p_holm")] == [None] * len(
            [*values(document, "p_value"), *values(document, "p_holm")]
        )
        assert set(map(str, values(document, "mean_interval"))) <= {"[None, None]"}
        for row in document["comparisons"]:
            assert PEEKED in row["sentence"] or tracks.NO_ANYTIME in row["sentence"]
            assert "p =" not in row["sentence"]
    assert not judged(study(kind), usual(kind)).document()["peeked"]


# --- no answers, JSON


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("peek", [False, True])
def test_a_study_without_answers_says_so(kind: Any, peek: bool) -> None:
    for found in (
        judged(study(kind), peek=peek),
        judged(study(kind), usual(kind), most=0, peek=peek),
        judged(study(kind), usual(kind), most=1, peek=peek),
    ):
        document = found.document()
        assert document["headline"].startswith(("No answer yet", "No answer counts"))
        assert document["ratings"] == 0
        assert [(row["verdict"], row["n"]) for row in document["comparisons"]] == [("undecided", 0)]
        json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("kind", TYPES)
def test_the_document_is_json_and_has_every_section(kind: Any) -> None:
    document = judged(study(kind, "other", "third") if kind != "staircase" else study(kind, trials=40), *[usual(kind)] * 4).document()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    assert {
        "study", "type", "open", "peeked", "listeners", "ratings", "headline", "comparisons", "yardstick", "order", "position_bias", "catches",
        "per_listener", "per_text", "ledger", "systems", "bradley_terry", "staircase", "headphones", "running",
    } <= set(document)  # fmt: skip
    assert document["listeners"] == {"all": 4, "counted": 4, "finished": 4}
    assert len(document["per_listener"]) == 4
    assert document["ledger"]


@settings(max_examples=25, deadline=None)
@given(some.sampled_from(TYPES), some.integers(0, 3), some.integers(0, 12), some.booleans(), some.integers(0, 99))
def test_no_handful_of_answers_breaks_the_document(kind: Any, listeners: int, most: int, peek: bool, seed: int) -> None:
    document = judged(study(kind, "other", "third"), *[usual(kind)] * listeners, peek=peek, most=most, seed=seed).document()
    json.dumps(document, allow_nan=False)
    for row in document["comparisons"]:
        assert row["verdict"] in ("different", "equivalent", "undecided")
        low, high = row["interval"]
        assert low is None or low <= row["estimate"] <= high


# --- ABX


def _abx(k: int, n: int, margin: float = 0.7, decision: verdicts.Decision = "fixed") -> verdicts.Finding:
    return verdicts.told_apart(Sample((1.0,) * k + (0.0,) * (n - k), (1,) * n, tuple(range(n))), margin, decision)


def test_eight_of_ten_is_undecided_with_p_of_0547() -> None:
    found = _abx(8, 10)
    assert found.verdict == "undecided"
    assert found.p_value == pytest.approx(0.0546875)
    assert "p = .0547" in found.lead
    assert found.more_trials is not None
    assert exact_p(0.8 * (10 + found.more_trials), 10 + found.more_trials) < 0.05
    assert _abx(9, 10).verdict == "different"


def test_half_of_seventeen_is_equivalent_and_of_sixteen_is_not() -> None:
    assert _abx(8, 17).verdict == "equivalent"
    assert _abx(8, 16).verdict == "undecided"
    assert _abx(8, 16, 0.75).verdict == "equivalent"


def test_a_small_difference_that_many_trials_show_is_equivalent_and_said_to_be_heard() -> None:
    found = _abx(115, 200)
    assert found.verdict == "equivalent"
    assert found.p_value is not None
    assert found.p_value < 0.05
    assert "though told apart more often than by guessing" in found.lead


def test_answers_below_chance_look_swapped_and_are_no_equivalence() -> None:
    for decision in ("fixed", "anytime"):
        found = _abx(0, 16, decision=decision)  # type: ignore[arg-type]
        assert found.verdict == "undecided"
        assert "swapped" in found.notes[0]


def test_the_bootstrap_s_bound_counts_where_listeners_differ() -> None:
    # 6 listeners of 10 texts: half of them hear it, half guess; over trials 42 of 60 would have a bound of 79.7 %
    values = tuple(1.0 if who < 3 or text % 5 < 2 else 0.0 for who in range(6) for text in range(10))
    sample = Sample(values, tuple(who for who in range(6) for _ in range(10)), tuple(text for _ in range(6) for text in range(10)))
    found = verdicts.told_apart(sample, 0.85, "fixed")
    k = int(sum(values))
    assert found.bound is not None
    assert upper_bound(k, 60) < 0.85 < found.bound
    assert found.verdict == "different"


def test_a_perfect_listener_is_different_and_guessers_are_equivalent() -> None:
    assert only(judged(study("abx"), told(1.0)))["verdict"] == "different"
    row = only(judged(study("abx", texts=20), *[told(0.5)] * 4, seed=1))
    assert row["verdict"] == "equivalent"
    assert row["n"] == 80
    assert row["interval"][0] < 0.5 < row["interval"][1] < 0.7


def test_guessers_are_called_hearers_about_as_rarely_as_promised() -> None:
    different = equivalent = 0
    for seed in range(60):
        verdict = only(judged(study("abx", texts=16), *[told(0.5)] * 4, seed=seed))["verdict"]
        different += verdict == "different"
        equivalent += verdict == "equivalent"
    assert different <= 6
    assert equivalent >= 45


def test_sixty_per_cent_right_is_undecided_in_few_trials_and_found_in_many() -> None:
    row = only(judged(study("abx", texts=16, margin=0.6), told(0.6), seed=5))
    assert row["verdict"] == "undecided"
    assert row["more_trials"] >= 5
    many = only(judged(study("abx", texts=30, margin=0.6), *[told(0.62)] * 12, seed=1))
    assert many["verdict"] == "different"


def test_peeking_decides_by_the_e_value() -> None:
    assert _abx(9, 10, decision="anytime").verdict == "undecided"  # e-value 18.5, though p = .011
    assert _abx(10, 10, decision="anytime").verdict == "different"
    assert _abx(40, 80, decision="anytime").verdict == "equivalent"
    assert _abx(8, 17, decision="anytime").verdict == "undecided"
    found = _abx(9, 10, decision="anytime")
    assert found.p_value is None
    assert found.more_trials == 1


# --- AB


def test_a_clear_preference_is_different_and_a_divided_one_is_equivalent() -> None:
    row = only(judged(study("ab"), *[taste(0.95)] * 4))
    assert row["verdict"] == "different"
    assert row["estimate"] > 0.8
    row = only(judged(study("ab", texts=12), *[taste(0.5)] * 5, seed=1))
    assert row["verdict"] == "equivalent"
    row = only(judged(study("ab"), *[taste(0.5, none=1.0)] * 4))
    assert (row["verdict"], row["estimate"], row["counts"]["none"]) == ("equivalent", 0.5, 64)


def test_who_always_takes_the_first_prefers_nothing_and_every_couple_contradicts_itself() -> None:
    first = always("A")

    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:  # but hears the anchors
        return taste(0.5)(manifest, unit, presentation, rng) if unit.kind == "catch" else first(manifest, unit, presentation, rng)

    document = judged(study("ab", texts=12), *[respond] * 4).document()
    (row,) = document["comparisons"]
    assert row["estimate"] == 0.5
    assert row["verdict"] == "equivalent"
    assert document["order"]["all"] | {"share": 1.0, "contradicting": 48, "agreeing": 0, "half": 0} == document["order"]["all"]
    assert document["order"]["all"]["estimate_without_contradicting"] is None
    assert document["position_bias"]["share"] == 1
    assert document["position_bias"]["interval"][0] > 0.9


def test_someone_consistent_contradicts_nothing() -> None:
    order = judged(study("ab"), taste(1.0), taste(0.0)).document()["order"]["all"]
    assert (order["couples"], order["contradicting"], order["agreeing"]) == (16, 0, 16)
    assert order["estimate_without_contradicting"] == 0.5


def test_the_two_orders_of_a_pair_are_one_observation() -> None:
    # one listener, ten texts, 7 preferred in both orders: 14 of 20 answers, and yet only 7 of 10 pairs
    values = (1.0, 1.0) * 7 + (0.0, 0.0) * 3
    found = verdicts.preferred(Sample(values, (1,) * 20, tuple(text for text in range(10) for _ in range(2))), 0.7, "fixed")
    free = verdicts.preferred(Sample(values, (1,) * 20, tuple(range(20))), 0.7, "fixed")
    assert found.interval is not None
    assert free.interval is not None
    assert found.interval.low < free.interval.low


def test_ties_stay_out_of_the_sign_test_and_the_e_value() -> None:
    values = (1.0,) * 10 + (0.5,) * 30
    found = verdicts.preferred(Sample(values, (1,) * 40, tuple(range(40))), 0.7, "fixed")
    assert found.p_value == pytest.approx(2 / 1024)
    assert found.e_value == pytest.approx(1024 / 11)
    assert found.estimate == 25 / 40
    anytime = verdicts.preferred(Sample(values, (1,) * 40, tuple(range(40))), 0.7, "anytime")
    assert anytime.verdict == "different"
    assert anytime.p_value is None


def test_listeners_of_opposite_taste_make_the_interval_wide() -> None:
    split = only(judged(study("ab", texts=10), *[taste(0.95), taste(0.05)] * 3))
    one_mind = only(judged(study("ab", texts=10), *[taste(0.5)] * 6))
    assert split["interval"][1] - split["interval"][0] > 1.5 * (one_mind["interval"][1] - one_mind["interval"][0])
    assert split["verdict"] == "undecided"


def test_several_comparisons_have_a_bradley_terry_table_and_one_has_none() -> None:
    assert judged(study("ab"), taste(0.9)).document()["bradley_terry"] is None

    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
        return taste({"good": 0.9, "bad": 0.1}.get(unit.comparison, 0.5), none=0.1)(manifest, unit, presentation, rng)

    document = judged(study("ab", "bad", "good"), *[respond] * 4).document()
    table = document["bradley_terry"]
    assert [row["system"] for row in table["systems"]] == ["good", "bad"]
    for row in table["systems"]:
        (compared,) = (one for one in document["comparisons"] if one["comparison"] == row["system"])
        assert row["share"] == pytest.approx(compared["estimate"], abs=0.03)
        assert row["interval"][0] < row["share"] < row["interval"][1]
    assert document["headline"].startswith("Against ref, different: bad, good")


# --- CCR, ACR, MUSHRA


def test_points_within_the_margin_are_equivalent_and_beyond_it_different() -> None:
    assert only(judged(study("ccr"), *[scores({"other": -1.5, "low": -3}, 0.7)] * 4))["verdict"] == "different"
    row = only(judged(study("ccr"), *[scores({"other": 0.0, "low": -3}, 0.5)] * 4))
    assert row["verdict"] == "equivalent"
    document = judged(study("ccr"), *[scores({"other": 0, "low": -3})] * 3).document()
    assert document["yardstick"]["estimate"] == 0  # the reference against itself


def test_one_side_favoured_in_every_answer_is_no_equivalence_in_points() -> None:
    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
        return scores({"low": -3})(manifest, unit, presentation, rng) if unit.kind == "catch" else 2

    document = judged(study("ccr"), *[respond] * 3).document()
    assert document["comparisons"][0]["estimate"] == 0
    assert document["comparisons"][0]["verdict"] == "undecided"  # all couples are 0 on average, and yet nothing was learnt
    assert document["order"]["all"]["share"] == 1
    assert document["position_bias"]["share"] == 0


def test_six_answers_are_the_least_for_a_verdict_in_points() -> None:
    for n, verdict in ((5, "undecided"), (6, "equivalent")):
        found = verdicts.rated(Sample((0.0,) * n, (1,) * n, tuple(range(n))), 0.5, "fixed", SCALES["ccr"])
        assert found.verdict == verdict
    assert verdicts.rated(Sample((3.0,), (1,), (0,)), 0.5, "fixed", SCALES["ccr"]).interval is None


def test_mean_opinions_are_compared_text_by_text_and_listed_medians_first() -> None:
    points = {"ref": 4.0, "other": 3.0, "seed": 4.0, "low": 1.0}
    document = judged(study("acr", texts=10), *[scores(points, 0.4, who=who) for who in (-0.6, 0.0, 0.4, 0.3)]).document()
    (row,) = document["comparisons"]
    assert row["verdict"] == "different"
    assert row["n"] == 40
    assert row["estimate"] == pytest.approx(-1, abs=0.25)
    systems = {one["system"]: one for one in document["systems"]}
    assert list(systems) == ["ref", "other", "ref (other seed)"]
    assert list(systems["other"]).index("median") < list(systems["other"]).index("mean")
    assert systems["other"]["median"] == 3
    assert systems["other"]["p_value"] == systems["other"]["p_holm"] < 0.01
    assert systems["ref"]["p_value"] is None
    assert systems["other"]["adjusted_mean"] == pytest.approx(systems["other"]["mean"])  # everybody heard everything
    assert document["catches"]["anchor"] == {"n": 8, "passed": 8, "share": 1.0}


def test_means_over_different_texts_are_compared_where_nothing_is_paired_and_it_is_said() -> None:
    of = study("acr", texts=6)
    sessions = []
    for number in range(4):
        one = session(of, number, scores({"ref": 4, "other": 2, "low": 1}, 0.3))
        units = of.manifest.units
        kept = [
            trial
            for trial in one.trials
            if (units[trial.presentation.unit].stimuli[0] % 5 == 1) == (units[trial.presentation.unit].text < 3)
        ]
        sessions.append(dataclasses.replace(one, trials=tuple(kept)))
    row = only(results(of, sessions, now=LATER))
    assert row["n"] == 4
    assert "No listener rated both on one text" in row["sentence"]
    assert row["estimate"] == pytest.approx(-2, abs=0.5)


def test_mushra_shows_a_large_difference_and_calls_a_small_one_equivalent() -> None:
    points = {"ref": 97.0, "near": 95.0, "far": 60.0, "seed": 94.0, "low": 12.0, "middle": 45.0}
    of = study("mushra", "near", "far", texts=8)
    document = judged(of, *[scores(points, 2.5)] * 6).document()
    verdict_of = {row["comparison"]: row["verdict"] for row in document["comparisons"]}
    assert verdict_of == {"near": "equivalent", "far": "different"}
    systems = {one["system"]: one for one in document["systems"]}
    assert systems["far"]["permuted_by"] == "listener"
    assert systems["far"]["p_value"] == pytest.approx(2 / 64)
    assert systems["far"]["p_holm"] == pytest.approx(2 * 2 / 64)
    assert systems["ref (anchor 3.5 kHz)"]["median"] < 20
    assert document["per_listener"][0]["catches"] == 8
    assert "less than what another seed" in next(row for row in document["comparisons"] if row["comparison"] == "near")["sentence"]


def test_signs_decide_about_points_when_somebody_peeked() -> None:
    found = judged(study("ccr", peeked=True), *[scores({"other": -1.0, "low": -3}, 0.5)] * 4).document()["comparisons"][0]
    assert found["verdict"] == "different"
    assert "e-value of the signs" in found["sentence"]
    few = judged(study("ccr", peeked=True, texts=3), scores({"other": -1.0, "low": -3})).document()["comparisons"][0]
    assert few["n"] == 6
    assert few["e_value"] == pytest.approx(64 / 7)  # 2^6 · B(7, 1)
    assert few["verdict"] == "undecided"
    assert few["more_trials"] == 2  # 2^8 / 9 is above 20


# --- staircase


def test_staircases_find_thresholds_floors_and_ceilings() -> None:
    def hears(level: int) -> Respond:
        def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
            return told(1.0 if unit.kind == "catch" or unit.level <= level else 0.5)(manifest, unit, presentation, rng)

        return respond

    of = study("staircase", trials=40)
    row = only(judged(of, *[hears(7)] * 3))
    assert row["verdict"] == "different"
    assert 7 <= row["estimate"] <= 9
    found = judged(of, hears(32))
    assert only(found)["verdict"] == "different"
    assert "tells even NFE 32" in only(found)["sentence"]
    found = judged(of, *[hears(0)] * 5, seed=1)
    assert only(found)["verdict"] == "equivalent"
    assert "cannot tell even NFE 4" in only(found)["sentence"]
    assert found.document()["staircase"]["median"]["state"] == "floor"
    short = judged(of, hears(7), most=8)
    assert only(short)["verdict"] == "undecided"
    assert "too few reversals" in only(short)["sentence"]


def test_a_staircase_that_was_peeked_at_has_no_verdict() -> None:
    row = only(judged(study("staircase", trials=40, peeked=True), *[told(1.0)] * 3))
    assert row["verdict"] == "undecided"
    assert "no anytime-valid figure exists" in row["sentence"]


# --- who carries it, yardstick, tables


def test_a_verdict_that_rests_on_one_listener_says_so() -> None:
    row = only(judged(study("abx", texts=20), told(1.0), told(0.5), told(0.5), seed=4))
    assert row["verdict"] == "different"
    assert "It rests on listener 1 alone" in row["sentence"]
    assert "It rests on" not in only(judged(study("abx", texts=20), *[told(0.9)] * 3))["sentence"]


def test_a_verdict_that_rests_on_one_text_says_so() -> None:
    sample = Sample((1.0,) * 4 + (0.5,) * 8, (1, 2, 3, 4) * 3, (0,) * 4 + (1,) * 4 + (2,) * 4)
    assert carried_by(sample, lambda part: sum(part.values) / len(part.values) - 0.5) == [("text", 0)]
    assert carried_by(Sample((), (), ()), lambda part: None) == []


def test_one_or_two_listeners_speak_for_themselves() -> None:
    assert "Only 1 listener: nothing is known about others" in only(judged(study("abx"), told(1.0)))["sentence"]
    assert "Only 2 listeners" in only(judged(study("abx"), told(1.0), told(1.0)))["sentence"]
    assert "Only" not in only(judged(study("abx"), *[told(1.0)] * 3))["sentence"]


def test_the_yardstick_has_the_same_figures_and_a_smaller_difference_is_said_to_be_so() -> None:
    document = judged(study("abx", texts=16), *[told(0.55, yardstick=1.0)] * 3).document()
    assert document["yardstick"]["verdict"] == "different"
    assert set(document["yardstick"]) == set(document["comparisons"][0])
    assert "That is less than what another seed of the reference makes" in document["comparisons"][0]["sentence"]
    document = judged(study("abx", texts=16), *[told(1.0, yardstick=0.5)] * 3).document()
    assert "another seed" not in document["comparisons"][0]["sentence"]


def test_tables_list_every_listener_and_text() -> None:
    of = study("ab", texts=4)
    document = judged(of, taste(1.0), taste(0.0), always("A")).document()
    rows = document["per_listener"]
    assert [row["estimate"] for row in rows] == [1.0, 0.0, 0.5]
    assert [row["counts"] for row in rows] == [True, True, True]
    assert [row["catches_passed"] for row in rows][:2] == [2, 2]
    assert [row["headphones"] for row in rows] == ["not taken"] * 3
    assert [(row["text"], row["n"]) for row in document["per_text"]] == [(f"t{text}", 6) for text in range(4)]
    assert document["catches"]["same"]["said_same"] == 4
    assert document["catches"]["same"]["chose_first"] == 1.0


def test_an_excluded_listener_is_in_the_tables_and_not_in_the_figures() -> None:
    document = judged(study("ab"), taste(0.9), always("none")).document()
    assert document["listeners"] == {"all": 2, "counted": 1, "finished": 2}
    assert document["comparisons"][0]["listeners"] == 1
    assert document["per_listener"][1]["counts"] is False
    assert "failed 2 of 2 catches" in document["per_listener"][1]["dropped"]
    assert document["headphones"] == {"passed": 0, "failed": 0, "not_taken": 2}


def test_several_comparisons_are_corrected_by_holm() -> None:
    rows = judged(study("abx", "a", "b", "c", texts=10), told(0.7), seed=2).document()["comparisons"]
    p = sorted(row["p_value"] for row in rows)
    assert min(row["p_holm"] for row in rows) == pytest.approx(min(1, 3 * p[0]), abs=1e-5)


def test_the_running_figures_end_with_those_of_all_answers() -> None:
    sample = Sample((1.0, 0.0) * 300, (1,) * 600, tuple(range(600)))
    points = running(sample, "abx")
    assert len(points) == 200
    assert (points[0]["n"], points[-1]["n"]) == (1, 600)
    assert points[-1]["e_value"] == pytest.approx(verdicts.told_apart(sample, 0.7, "anytime").e_value)
    assert running(Sample((), (), ()), "ab") == []
    assert math.isclose(running(Sample((2.0,) * 8, (1,) * 8, tuple(range(8))), "ccr")[-1]["e_value"], 256 / 9)


def test_a_table_shows_no_p_value_as_zero_and_no_figure_without_an_end() -> None:
    assert cell(0.0, "p_value") == "< .001"
    assert cell(0.0547, "p_value") == ".055"
    assert cell(0.0, "estimate") == "0"
    assert cell(4.1e26, "e_value") == "4.1e+26"
    assert cell([0.1, 0.5], "interval") == "0.1 to 0.5"
    assert cell([None, 0.5], "interval") == cell(None) == ""
    assert cell(True) == "yes"
