"""The checks over engines without a model, which have no proofs; and over the real ones with the demo weights."""

import pytest

from lab.bench.validate import Validation, target_lines
from lab.config import parse
from lab.engine.device import probe
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, ignore_progress
from lab.engine.weights import resolve
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


@pytest.mark.engine
def test_with_the_real_engine_everything_that_a_processor_can_show_holds():
    with EnginePool(resolve("demo"), probe("cpu"), max_workers=8) as pool:
        validation = Validation(pool, default_voice("demo"), parse("optimized:nfe=4"), Cancel(), ignore_progress)
        checks = (
            validation._engaged,
            validation._model_dtype,
            validation._vocoder_dtype,
            validation._empty_cache,
            validation._reference_cache,
        )
        found = {line.check: line for check in (*checks, validation._correct) for line in check()}
    assert {line.state for line in found.values()} == {"pass", "not applicable here"}
    assert "baseline +13.9" in found["optimized:nfe=4: a cached reference keeps its level"].figure
    assert found["optimized:nfe=4: the sound is that of golden at NFE 4"].figure == "identical samples"
    assert found["optimized:nfe=4: FP16 in the sampler"].state == "not applicable here"


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
