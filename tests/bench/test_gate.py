import pytest

from lab.bench import gate
from lab.errors import LabError
from tests.runs import BEGAN, machine, synthetic_run

SETTINGS = {"configs": "baseline,optimized", "texts": "short,medium", "rounds": 20}


def measured(seed=1, **changes):
    return synthetic_run(**{**SETTINGS, "seed": seed, "began": BEGAN + seed, **changes})


def states(result):
    return {(row.config, row.texts): row.state for row in result.rows}


def test_the_same_speed_passes():
    result = gate.judge(measured(1), measured(2), 0.05)
    assert result.passed
    assert set(states(result).values()) == {"ok"}
    assert len(result.rows) == 4


def test_a_configuration_that_became_slower_than_allowed_fails_and_the_others_do_not():
    result = gate.judge(measured(1), measured(2, times={"optimized": 60.0}), 0.05)
    assert not result.passed
    assert states(result)["optimized", "medium"] == "slower"
    assert states(result)["baseline", "medium"] == "ok"


def test_a_slowdown_within_the_limit_passes_and_a_gain_always_does():
    assert gate.judge(measured(1), measured(2, times={"optimized": 51.5}), 0.10).passed
    assert gate.judge(measured(1), measured(2, times={"optimized": 30.0}), 0.0, strict=False).rows[2].state == "ok"


def test_noise_that_hides_the_answer_passes_unless_it_is_strict():
    before, after = measured(1, noise=0.3, rounds=6), measured(2, noise=0.3, rounds=6)
    assert "undecided" in states(gate.judge(before, after, 0.05)).values()
    assert not gate.judge(before, after, 0.05, strict=True).passed


def test_too_few_blocks_are_undecided():
    result = gate.judge(measured(1, rounds=2), measured(2, rounds=2), 0.05)
    assert set(states(result).values()) == {"undecided"}


def test_a_configuration_that_was_not_measured_again_fails():
    result = gate.judge(measured(1), measured(2, configs="baseline,golden"), 0.05)
    assert not result.passed
    assert states(result)["optimized", "short"] == "missing"


def test_a_configuration_of_the_same_name_and_other_settings_fails():
    after = measured(2)
    arms = [arm.model_copy(update={"digest": "0" * 16}) if arm.config == "optimized" else arm for arm in after.arms]
    result = gate.judge(measured(1), after.model_copy(update={"arms": arms}), 0.05)
    assert "other settings" in next(row.detail for row in result.rows if row.config == "optimized")
    assert not result.passed


def test_samples_that_became_invalid_fail():
    after = measured(2)
    lost = {index: ["silent"] for index, arm in enumerate(after.samples.arm) if arm == 2 and index % 3 == 0}
    worse = after.model_copy(update={"samples": after.samples.model_copy(update={"invalid": lost})})
    assert states(gate.judge(measured(1), worse, 0.05))["optimized", "short"] == "invalid"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"on": machine("NVIDIA H100", "cuda")}, "machine"),
        ({"weights": "random:demo"}, "weights"),
        ({"texts": "short"}, "texts"),
        ({"concurrency": 2, "rounds": 3}, "concurrency"),
    ],
)
def test_runs_that_were_measured_under_other_conditions_are_not_compared(change, what):
    with pytest.raises(LabError, match=what):
        gate.judge(measured(1), measured(2, **change), 0.05)


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.05", 0.05), (" 12.5% ", 0.125), ("0", 0.0)])
def test_a_limit_is_a_share(text, value):
    assert gate.parse_limit(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["much", "", "-1%", "nan", "2000%"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(LabError, match="as 5% or"):
        gate.parse_limit(text)
