"""What answers say once sides are undone, and which do not count."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lab.listening import scoring
from lab.listening.judgements import frame
from lab.listening.model import StoredSession
from tests.listening import simulated
from tests.listening.simulated import always, session, study, taste, told


def _reasons(found: scoring.Scored, status: str, listener: int | None = None) -> list[str]:
    return [row.reason for row in found.ledger if row.status == status and listener in (None, row.listener)]


# --- signs


def test_a_preference_is_for_the_comparison_whichever_side_it_was_on() -> None:
    of = study("ab")
    found = scoring.score(of, [session(of, 0, taste(1.0)), session(of, 1, taste(0.0))])
    assert {one.value for one in found.judgements if one.listener == 1} == {1.0}
    assert {one.value for one in found.judgements if one.listener == 2} == {0.0}
    assert {one.order for one in found.judgements} == {"reference first", "comparison first"}
    assert len(found.judgements) == 2 * 8 * 2


def test_somebody_who_takes_the_first_prefers_neither_and_always_the_first() -> None:
    of = study("ab")
    found = scoring.score(of, [session(of, 0, always("A"))])
    assert sum(one.value for one in found.judgements) == len(found.judgements) / 2 == 8
    assert {one.first for one in found.judgements} == {1.0}


def test_points_are_turned_where_the_comparison_came_first() -> None:
    of = study("ccr")
    found = scoring.score(of, [session(of, 0, always(2))])  # B is better, whatever B is
    assert {(one.order, one.value, one.first) for one in found.judgements} == {
        ("reference first", 2.0, 0.0),
        ("comparison first", -2.0, 0.0),
    }
    found = scoring.score(of, [session(of, 0, simulated.scores({"other": -1.0, "low": -3}))])
    assert {one.value for one in found.judgements} == {-1.0}


def test_an_abx_answer_is_right_when_it_names_x() -> None:
    of = study("abx")
    found = scoring.score(of, [session(of, 0, told(1.0)), session(of, 1, told(0.0))])
    assert {(one.listener, one.value) for one in found.judgements} == {(1, 1.0), (2, 0.0)}


def test_a_mushra_answer_is_read_by_its_labels_and_the_hidden_reference_is_told_by_its_slot() -> None:
    of = study("mushra", "x", "y", texts=2)
    points = {"ref": 100.0, "x": 80.0, "y": 60.0, "seed": 95.0, "low": 10.0, "middle": 40.0}
    found = scoring.score(of, [session(of, 0, simulated.scores(points))])
    table = frame([*found.judgements, *found.yardsticks])
    by = table.groupby(["comparison", "role"])["value"].agg(["mean", "count"])
    assert by.loc[("ref", "system")].tolist() == [100, 2]
    assert by.loc[("x", "system")].tolist() == [80, 2]
    assert by.loc[("ref", "anchor 7 kHz")].tolist() == [40, 2]
    assert by.loc[("ref", "other seed")].tolist() == [95, 2]
    assert {one.role for one in found.yardsticks} == {"other seed"}


@given(some.sampled_from(["ab", "abx", "ccr"]), some.integers(0, 1000))
def test_swapping_the_sides_and_the_answer_of_every_trial_changes_no_value(kind: Any, seed: int) -> None:
    of = study(kind, texts=3)
    respond = (
        told(0.6) if kind == "abx" else taste(0.6, none=0.2) if kind == "ab" else simulated.scores({"other": 0.4, "low": -3}, noise=1.5)
    )
    straight = session(of, 0, respond, seed=seed)

    def swapped(one: StoredSession) -> StoredSession:
        trials = []
        for trial in one.trials:
            turn = {"A": "B", "B": "A", "none": "none"}
            before, rating = trial.presentation, trial.rating
            assert rating is not None
            slots = (before.slots[1], before.slots[0], *before.slots[2:])
            after = before.model_copy(update={"slots": slots, "x": turn.get(before.x, "")})
            answer = turn[rating.answer] if isinstance(rating.answer, str) else -rating.answer  # type: ignore[operator]
            trials.append(dataclasses.replace(trial, presentation=after, rating=dataclasses.replace(rating, answer=answer)))
        return dataclasses.replace(one, trials=tuple(trials))

    before, after = scoring.score(of, [straight]), scoring.score(of, [swapped(straight)])
    assert [one.value for one in before.judgements] == [one.value for one in after.judgements]
    assert [one.first for one in before.judgements] == [None if one.first is None else 1 - one.first for one in after.judgements]


# --- what does not count


def test_practice_catches_and_yardsticks_stand_in_the_ledger_and_not_among_the_answers() -> None:
    of = study("ab")
    found = scoring.score(of, [session(of, 0, taste(0.5))])
    assert {one.kind for one in found.judgements} == {"main"}
    assert _reasons(found, "excluded") == ["practice"]
    assert (
        sorted(_reasons(found, "counted apart")) == ["catch trial"] * 4 + ["yardstick: the reference against itself with another seed"] * 8
    )
    assert len(found.yardsticks) == 8
    assert all(row.trial is not None for row in found.ledger)


def test_a_session_without_an_answer_that_counts_is_left_out_with_its_reason() -> None:
    of = study("abx")
    found = scoring.score(of, [session(of, 0, told(1.0), most=1), session(of, 1, told(1.0), most=0)])
    assert not found.judgements
    assert [one.dropped for one in found.listeners] == ["no answer that counts"] * 2
    assert [(row.listener, row.reason) for row in found.ledger if row.trial is None] == [
        (1, "no answer that counts"),
        (2, "no answer that counts"),
    ]


def test_an_unfinished_session_is_kept_and_said_to_be() -> None:
    of = study("abx")
    found = scoring.score(of, [session(of, 0, told(1.0), most=5)])
    assert len(found.judgements) == 4
    assert not found.listeners[0].finished
    assert _reasons(found, "kept") == ["did not answer all trials; the answers that were given count"]
    assert any("needs 2, and 0 can be judged" in reason for reason in _reasons(found, "unavailable"))
    assert not found.listeners[0].dropped


def _with_catches(kind: Any, failed: int) -> scoring.Scored:
    """A listener who fails `failed` of two catches with the anchor."""
    of = study(kind)
    left = {"fail": failed}
    good = told(0.9) if kind in ("abx", "staircase") else taste(0.9) if kind == "ab" else simulated.scores({"ref": 4, "other": 4, "low": 1})
    if kind == "ccr":
        good = simulated.scores({"other": 1, "low": -2})

    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
        if unit.expects == "a" and left["fail"]:
            left["fail"] -= 1
            straight = presentation.slots[0] == unit.stimuli[0]
            wrong = {"abx": "AB".replace(presentation.x, ""), "ab": "B" if straight else "A", "ccr": 0, "acr": 5}
            return wrong[kind]
        return good(manifest, unit, presentation, rng)

    return scoring.score(of, [session(of, 0, respond)])


@pytest.mark.parametrize("kind", ["ab", "abx", "ccr", "acr"])
def test_who_fails_one_of_two_catches_counts_and_who_fails_both_does_not(kind: str) -> None:
    for failed in (0, 1):
        found = _with_catches(kind, failed)
        assert found.judgements
        assert [one.passed for one in found.catches if one.expects == "a"].count(False) == failed
    found = _with_catches(kind, 2)
    assert not found.judgements
    assert not found.yardsticks
    assert found.listeners[0].dropped == "failed 2 of 2 catches with the 3.5 kHz anchor, more than half"
    assert found.listeners[0].dropped in _reasons(found, "excluded")


def test_one_failed_catch_alone_drops_nobody() -> None:
    of = study("ab", texts=1)  # one catch of each kind
    found = scoring.score(of, [session(of, 0, taste(0.5)), session(of, 1, always("B"))])
    assert not any(one.dropped for one in found.listeners)
    assert any("needs 2, and 1 can be judged" in reason for reason in _reasons(found, "unavailable", 2))


def test_answers_to_identical_pairs_never_drop_anybody() -> None:
    of = study("ab")

    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
        return "A" if unit.expects == "same" else taste(0.5)(manifest, unit, presentation, rng)

    found = scoring.score(of, [session(of, 0, respond)])
    assert [one.passed for one in found.catches if one.expects == "same"] == [False, False]
    assert [one.first for one in found.catches if one.expects == "same"] == [1.0, 1.0]
    assert not found.listeners[0].dropped


def test_an_anchor_that_cannot_be_compared_with_a_rating_is_not_failed() -> None:
    of = study("acr")
    only_catches = session(of, 0, simulated.scores({"ref": 4, "other": 4, "low": 1}))
    kept = tuple(trial for trial in only_catches.trials if trial.presentation.kind == "catch" or trial.presentation.slots[0] % 5 == 1)
    found = scoring.score(of, [dataclasses.replace(only_catches, trials=kept)])
    assert [one.passed for one in found.catches] == [None, None]
    assert any("0 can be judged" in reason for reason in _reasons(found, "unavailable"))


# --- post-screening


@pytest.mark.parametrize(("bad", "dropped"), [(3, False), (4, True)])
def test_mushra_keeps_a_listener_with_three_bad_items_of_twenty_and_drops_one_with_four(bad: int, dropped: bool) -> None:
    of = study("mushra", texts=20)

    def respond(manifest: Any, unit: Any, presentation: Any, rng: Any) -> Any:
        reference = 89.0 if unit.text < bad else 100.0
        return simulated.scores({"ref": reference, "other": 70, "seed": 90, "low": 10, "middle": 40})(manifest, unit, presentation, rng)

    found = scoring.score(of, [session(of, 0, respond)])
    assert bool(found.listeners[0].dropped) == dropped
    assert bool(found.judgements) != dropped
    if dropped:
        assert _reasons(found, "excluded")[0] == "hidden reference under 90 on 4 of 20 items, more than 15 % (BS.1534-3)"


def test_mushra_drops_a_listener_who_finds_the_middle_anchor_excellent_where_others_do_not() -> None:
    of = study("mushra", texts=10)
    usual = simulated.scores({"ref": 100, "other": 70, "seed": 90, "low": 10, "middle": 40})
    deaf = simulated.scores({"ref": 100, "other": 100, "seed": 100, "low": 100, "middle": 100})
    found = scoring.score(of, [*(session(of, number, usual) for number in range(4)), session(of, 4, deaf)])
    assert [bool(one.dropped) for one in found.listeners] == [False, False, False, False, True]
    assert "7 kHz anchor over 90 on 10 of 10 items" in found.listeners[4].dropped
    alone = scoring.score(of, [session(of, 0, usual), session(of, 1, deaf)])  # half of the listeners: such items do not count
    assert not any(one.dropped for one in alone.listeners)
    assert _reasons(alone, "unavailable") == ["post-screening by the mid-range anchor: nothing to judge by"] * 2


# --- the rest


def test_headphones_are_what_the_last_check_said() -> None:
    of = study("abx")
    checks = [
        ("headphones", {"passed": False}, simulated.START),
        ("volume", 3, simulated.START),
        ("headphones", {"passed": True}, simulated.START),
    ]
    found = scoring.score(of, [session(of, 0, told(1), events=checks), session(of, 1, told(1)), session(of, 2, told(1), events=checks[:1])])
    assert [one.headphones for one in found.listeners] == [True, None, False]


def test_a_staircase_has_a_track_of_main_trials_for_every_listener_and_knows_who_finished() -> None:
    of = study("staircase", trials=40)
    found = scoring.score(of, [session(of, 0, told(1.0)), session(of, 1, told(1.0), most=10)])
    assert len(found.tracks[1]) == 40
    assert [level for level, _ in found.tracks[1][:5]] == [4, 4, 5, 5, 6]
    assert len(found.tracks[2]) == 9
    assert [one.finished for one in found.listeners] == [True, False]


def test_judgements_come_in_the_order_in_which_they_were_given() -> None:
    of = study("abx")
    found = scoring.score(of, [session(of, number, told(0.5)) for number in range(3)])
    assert [one.at for one in found.judgements] == sorted(one.at for one in found.judgements)
    assert len({one.listener for one in found.judgements[:3]}) == 3


def test_no_sessions_give_empty_tables() -> None:
    found = scoring.score(study("ab"), [])
    assert found == scoring.Scored((), (), (), (), ())
    assert list(frame(found.judgements).columns)[:2] == ["listener", "trial"]
