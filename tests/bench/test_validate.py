"""The checks over engines without a model, which have no proofs; `tests/engine/test_real_engine.py` has those over real ones."""

from lab.bench.validate import Validation, target_lines
from lab.config import parse
from lab.engine.process import Cancel, ignore_progress
from lab.voices import default_voice
from tests.runs import synthetic_run


def lines(pool, config="optimized"):
    voice = default_voice(pool.weights.kind)
    return {line.check: line for line in Validation(pool, voice, parse(config), Cancel(), ignore_progress).lines()}


def test_engines_that_prove_nothing_do_not_pass(tmp_path, monkeypatch):
    from tests.fakes import fake_pool

    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path))
    with fake_pool(max_workers=12) as pool:
        found = lines(pool)
    assert found["compile: torch.compile engaged"].state == "fail"
    assert found["empty_cache: once in baseline, never without it"].state == "fail"
    assert found["vocoder-fp16: FP16 in the vocoder"].state == "fail"
    assert found["optimized: the same request gives the same clip"].state == "pass"


def test_an_engine_that_fails_is_a_line_and_the_other_checks_go_on(tmp_path, monkeypatch):
    from tests.fakes import fake_pool

    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("lab.bench.validate._TEXT", "Please refuse.")
    with fake_pool(max_workers=12) as pool:
        found = lines(pool)
    assert {line.state for line in found.values()} == {"fail", "not applicable here"}
    assert all("That cannot be said" in line.figure for line in found.values() if line.state == "fail")


def targets(**settings):
    run = synthetic_run("optimized,upstream", "extended", 12, **settings)
    return {line.check: line for line in target_lines(run, "optimized", "upstream")}


def test_targets_that_are_met_pass_with_their_figures():
    found = targets(times={"optimized": 50.0, "upstream": 230.0})
    assert {line.state for line in found.values()} == {"pass"}
    assert "times" in found["optimized: more than 3.3 times faster than upstream"].figure


def test_targets_that_are_missed_fail():
    found = targets(times={"optimized": 400.0, "upstream": 800.0}, noise=0.3)
    assert found["optimized: mean RTF < 0.20"].state == "fail"
    assert found["optimized: coefficient of variation < 10 %"].state == "fail"
    assert found["optimized: more than 3.3 times faster than upstream"].state == "fail"


def test_an_aa_arm_that_differs_from_itself_fails():
    assert targets(aa_shift=0.2)["A/A: the reference against itself"].state == "fail"
