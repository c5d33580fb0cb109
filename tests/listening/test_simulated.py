"""Simulated listeners take whole tests, and what the study concludes of them is what theory says.

They hear as a perfect ear would: a clip is known by its bytes. What they do with it is theirs. Some of them go through the real server by its real
API, as many as `found` is told; the others ask the same service without HTTP, which is what takes the time.
"""

import hashlib
import json
import random
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from lab.__main__ import app
from lab.listening.results import results
from lab.listening.statistics import binomial
from tests.listening.manifests import NAMES
from tests.listening.real_server import serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab")) as made:
        yield made


class Ear:
    """Knows every clip of a study by its bytes."""

    def __init__(self, study):
        self.known = {clip.sha256: clip for clip in study.manifest.stimuli}

    def quality(self, wav):
        """How good a clip is: the reference best, its anchors worst, a ladder by its NFE."""
        clip = self.known[hashlib.sha256(wav).hexdigest()]
        if clip.role.startswith("anchor"):
            return 10 if "3.5" in clip.role else 40
        if clip.role == "other seed" or clip.config == NAMES[0]:
            return 100
        return 64 + int(clip.config.removeprefix("ladder-nfe")) if "nfe" in clip.config else 70


def perfect(ear, draw):
    def choose(trial, sounds):
        return "A" if sounds["X"] == sounds["A"] else "B"

    return choose


def guesser(ear, draw):
    return lambda trial, sounds: draw.choice("AB")


def sixty(ear, draw):
    """Hears the difference in 60 % of the trials and guesses in the others: right in 80 %."""
    hears = perfect(ear, draw)
    return lambda trial, sounds: hears(trial, sounds) if draw.random() < 0.6 else draw.choice("AB")


def first(ear, draw):
    return lambda trial, sounds: "A"


def flipper(ear, draw):
    """Hears everything, and presses the wrong button."""
    hears = perfect(ear, draw)
    return lambda trial, sounds: {"A": "B", "B": "A"}[hears(trial, sounds)]


def deaf_to_it(ear, draw):
    """Tells the anchors, and nothing else."""
    hears = perfect(ear, draw)

    def choose(trial, sounds):
        worst = min(ear.quality(wav) for wav in sounds.values())
        return hears(trial, sounds) if worst < 50 else draw.choice("AB")

    return choose


def preferring(ear, draw):
    def choose(trial, sounds):
        a, b = ear.quality(sounds["A"]), ear.quality(sounds["B"])
        return "none" if a == b else "A" if a > b else "B"

    return choose


def found(served, kind, listeners, seed=1, http=0, **study):
    """What a study concludes of simulated listeners, the first `http` of them over the network: the document of its results."""
    made = served.study(kind, **study)
    for number, character in enumerate(listeners):
        ear = Ear(made)
        choose = character(ear, random.Random(f"{seed}/{number}"))
        state = served.listener(made, 1000 * seed + number, choose, http=number < http).listen()
        assert state["screen"] == "thanks"
    closed = served.context.studies.close(made.token)
    return results(closed, served.context.studies.sessions(made.token), now=datetime.now(UTC)).document()


def test_a_perfect_listener_tells_the_two_apart(served):
    said = found(served, "abx", [perfect], trials=16, http=1)
    row = said["comparisons"][0]
    assert (row["verdict"], row["n"], row["estimate"]) == ("different", 16, 1.0)
    assert row["p_value"] == pytest.approx(0.5**16, abs=1e-6)
    assert said["catches"]["anchor"]["passed"] == said["catches"]["anchor"]["n"] == 2


def test_listeners_who_hear_the_anchors_and_not_the_difference_make_it_equivalent(served):
    said = found(served, "abx", [deaf_to_it] * 4, trials=20)
    row = said["comparisons"][0]
    assert (row["verdict"], row["n"]) == ("equivalent", 80)
    assert 0.4 < row["estimate"] < 0.6
    assert row["bound"] < 0.7


def test_guessers_are_told_by_their_catches_and_never_make_a_difference(served):
    said = found(served, "abx", [guesser] * 4, trials=16)
    dropped = [row for row in said["per_listener"] if row["dropped"]]
    assert 0 < len(dropped) < 4
    assert all("catches" in row["dropped"] for row in dropped)
    assert {row["listener"] for row in said["ledger"] if row["trial"] is None} == {row["listener"] for row in dropped}
    assert said["comparisons"][0]["verdict"] in ("equivalent", "undecided")


def test_a_listener_with_sixty_percent_sensitivity_is_right_in_four_of_five(served):
    said = found(served, "abx", [sixty] * 3, trials=30)
    row = said["comparisons"][0]
    assert row["verdict"] == "different"
    assert row["estimate"] == pytest.approx(0.8, abs=0.12)
    assert row["interval"][0] < 0.8 < row["interval"][1]


def test_one_guessing_listener_leaves_it_undecided_and_says_how_many_more(served):
    said = found(served, "abx", [deaf_to_it], trials=10, seed=3)
    row = said["comparisons"][0]
    assert row["verdict"] == "undecided"
    assert row["more_trials"] > 0


def test_eight_of_ten_in_an_abx_is_no_proof(served):
    right = iter([True] * 8 + [False] * 2)

    def eight(ear, draw):
        hears = perfect(ear, draw)

        def choose(trial, sounds):
            answer = hears(trial, sounds)
            pair = {ear.known[hashlib.sha256(wav).hexdigest()].role for wav in sounds.values()}
            names = {ear.known[hashlib.sha256(wav).hexdigest()].config for wav in sounds.values()}
            counts = pair == {"system"} and len(names) == 2
            return answer if not counts or next(right) else {"A": "B", "B": "A"}[answer]

        return choose

    row = found(served, "abx", [eight], trials=10)["comparisons"][0]
    assert (row["n"], row["estimate"], row["verdict"]) == (10, 0.8, "undecided")
    assert row["p_value"] == pytest.approx(0.0547, abs=5e-5)
    assert binomial.exact_p(8, 10) == pytest.approx(0.0547, abs=5e-5)


def test_one_who_always_takes_the_first_shows_as_a_bias_and_not_as_a_preference(served):
    said = found(served, "ab", [first] * 3, trials=16)
    order = said["order"]["all"]
    assert order["contradicting"] == order["couples"] > 0
    assert said["position_bias"]["first"] == said["position_bias"]["n"]
    assert said["comparisons"][0]["estimate"] == 0.5
    assert said["comparisons"][0]["verdict"] != "different"


def test_one_who_flips_is_below_chance_fails_the_catches_and_is_left_out(served):
    said = found(served, "abx", [flipper, perfect, perfect, perfect], trials=16)
    rows = {row["listener"]: row for row in said["per_listener"]}
    assert [bool(rows[number]["dropped"]) for number in sorted(rows)] == [True, False, False, False]
    assert said["comparisons"][0]["n"] == 48
    assert any(row["status"] == "excluded" for row in said["ledger"])


def test_a_preference_is_found_and_the_yardstick_shows_none(served):
    said = found(served, "ab", [preferring] * 3, trials=16, http=1)
    row = said["comparisons"][0]
    assert row["verdict"] == "different"
    assert row["estimate"] == 0.0  # the share that prefers the other over the reference
    assert said["yardstick"]["estimate"] == 0.5
    assert said["order"]["all"]["contradicting"] == 0


def test_compared_scores_are_signed_towards_the_other_and_the_reference_against_itself_gives_nothing(served):
    def scoring(ear, draw):
        def choose(trial, sounds):
            b, a = ear.quality(sounds["B"]), ear.quality(sounds["A"])
            return 0 if a == b else 2 if b > a else -2

        return choose

    said = found(served, "ccr", [scoring] * 3, trials=16, http=1)
    assert said["comparisons"][0]["estimate"] == -2.0
    assert said["comparisons"][0]["verdict"] == "different"
    assert said["yardstick"]["estimate"] == 0.0
    assert said["catches"]["same"]["said_same"] == said["catches"]["same"]["n"]


def test_ratings_of_single_clips_give_medians_per_system(served):
    def opinion(ear, draw):
        return lambda trial, sounds: 5 if ear.quality(sounds["1"]) == 100 else 3 if ear.quality(sounds["1"]) == 70 else 1

    said = found(served, "acr", [opinion] * 6, trials=8, http=1)
    medians = {row["system"]: row["median"] for row in said["systems"]}
    assert medians[NAMES[0]] == 5
    assert medians[NAMES[1]] == 3
    assert said["comparisons"][0]["estimate"] == -2.0
    assert said["comparisons"][0]["verdict"] == "different"


def test_mushra_keeps_a_listener_with_three_bad_hidden_references_of_twenty_and_drops_one_with_four(served):
    def careless(bad):
        def made(ear, draw):
            seen = iter(range(1000))

            def choose(trial, sounds):
                labels = [track["label"] for track in trial["tracks"][1:]]
                scores = {label: ear.quality(sounds[label]) for label in labels}
                if not trial["practice"] and next(seen) < bad:
                    scores = {label: 80 if score == 100 else score for label, score in scores.items()}
                return scores

            return choose

        return made

    said = found(served, "mushra", [careless(0), careless(3), careless(4)], trials=20, texts=20)
    dropped = {row["listener"]: bool(row["dropped"]) for row in said["per_listener"]}
    assert [dropped[number] for number in sorted(dropped)] == [False, False, True]
    assert next(row["median"] for row in said["systems"] if row["system"] == NAMES[1]) == 70


def test_staircases_come_to_rest_where_a_listener_stops_hearing(served):
    def up_to(nfe):
        def made(ear, draw):
            hears = perfect(ear, draw)

            def choose(trial, sounds):
                worst = min(ear.quality(wav) for wav in sounds.values())
                return hears(trial, sounds) if worst <= 64 + nfe else draw.choice("AB")

            return choose

        return made

    said = found(served, "staircase", [up_to(7), up_to(7)], trials=40)
    tracks = said["staircase"]["tracks"]
    assert len(tracks) == 2
    assert all(6.9 <= track["threshold_nfe"] <= 10 for track in tracks), tracks
    everything = found(served, "staircase", [up_to(32)], trials=40, seed=2)
    assert ["even NFE 32" in track["words"] for track in everything["staircase"]["tracks"]] == [True]


def test_the_page_and_the_command_line_give_the_same_figures(served, monkeypatch):
    said = found(served, "abx", [sixty], trials=16, seed=5)
    monkeypatch.setenv("LAB_DATA_DIR", str(served.context.store.data_dir))
    answer = CliRunner().invoke(app, ["study", "results", said["study"], "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout.splitlines()[-1]) == json.loads(json.dumps(said))
