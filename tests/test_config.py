import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.config import NFE_LADDER, REGISTRY, ConfigError, EngineConfig, parse, parse_list

RUNS = Path(__file__).parents[1] / "results" / "runs"


def test_the_registry_names_every_configuration_of_the_lab():
    expected = {"upstream", "baseline", "fp16-vocoder", "no-empty-cache", "rms-cache", "optimized", "compile-wrapper", "compile", "golden"}
    expected |= {"turbo", "turbo-nfe16", "turbo-nfe7"}
    expected |= {f"vocoder-{dtype}" for dtype in ("fp32", "fp16", "bf16")} | {
        f"upstream-nfe{nfe}" for nfe in (4, 5, 6, 7, 8, 10, 12, 16, 32)
    }
    assert expected <= set(REGISTRY)


def test_an_override_changes_one_field_and_is_seen_in_the_name_and_the_digest():
    config = parse("optimized:nfe=6")
    assert (config.nfe, config.name) == (6, "optimized:nfe=6")
    assert config.patches == REGISTRY["optimized"].patches
    assert config.digest != REGISTRY["optimized"].digest


def test_an_override_that_changes_nothing_gives_the_configuration_itself():
    assert parse("optimized:nfe=7") is REGISTRY["optimized"]


def test_every_field_can_be_overridden():
    config = parse("upstream:patches=01+03:nfe=9:model_dtype=bf16:vocoder_dtype=fp16:compile=blocks:cfg_strength=1.5:sway=0:tf32=no")
    assert config.patches == ("01-ishowtts-baseline", "03-no-empty-cache")
    assert (config.nfe, config.model_dtype, config.vocoder_dtype, config.compile) == (9, "bf16", "fp16", "blocks")
    assert (config.cfg_strength, config.sway, config.tf32) == (1.5, 0.0, False)


def test_ideas_of_turbo_can_be_left_out():
    config = parse("turbo-nfe7:without=tables+graphs")
    assert (config.sampler, config.nfe, config.without) == ("turbo", 7, ("graphs", "tables"))
    assert config.digest != REGISTRY["turbo-nfe7"].digest
    assert config.settings["without"] == ["graphs", "tables"]
    assert parse(config.name) == config


def test_a_field_that_is_new_does_not_change_the_digest_of_a_stored_run():
    for name in ("20261125T110713Z-amd-epyc-demo-11a4", "20261125T082135Z-amd-epyc-demo-aefb"):
        arms = json.loads((RUNS / f"{name}.json").read_text())["arms"]
        assert arms
        for arm in arms:
            assert parse(arm["config"]).digest == arm["digest"]


def test_equal_settings_have_equal_digests_whatever_they_are_called():
    assert parse("upstream:patches=04+01").digest == parse("upstream:patches=01-ishowtts-baseline+04").digest
    assert parse("baseline:nfe=32:patches=none").digest == REGISTRY["upstream"].digest
    assert EngineConfig("a").digest == EngineConfig("b", summary="other words").digest


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fast", "no configuration 'fast'"),
        ("optimized:nfe=many", "whole number"),
        ("optimized:nfe=0", "outside 1 to 128"),
        ("optimized:nfe", "not field=value"),
        ("optimized:name=x", "no field 'name'"),
        ("optimized:compile=yes", "none, wrapper, blocks"),
        ("optimized:cfg_strength=nan", "outside 0 to 10"),
        ("optimized:tf32=maybe", "true or false"),
        ("optimized:sampler=turbo", "without them"),
        ("compile:sampler=turbo", "without them"),
        ("upstream:without=graphs", "needs sampler=turbo"),
        ("turbo:without=magic", "graphs, kernels, tables"),
    ],
)
def test_a_wrong_spec_says_what_there_is(spec, message):
    with pytest.raises(ConfigError, match=message):
        parse(spec)


def test_a_list_may_not_name_a_configuration_twice_or_be_too_long():
    with pytest.raises(ConfigError, match="twice"):
        parse_list("baseline,baseline")
    with pytest.raises(ConfigError, match="2 to 4"):
        parse_list("baseline", least=2, most=4)


@given(st.sampled_from(sorted(REGISTRY)), st.integers(1, 128), st.floats(0, 10), st.sampled_from(["auto", "fp32", "fp16", "bf16"]))
def test_the_name_of_an_overridden_configuration_parses_back_to_it(name, nfe, cfg, dtype):
    config = parse(f"{name}:nfe={nfe}:cfg_strength={cfg}:model_dtype={dtype}")
    assert parse(config.name) == config


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_raise_anything_but_a_plain_refusal(text):
    with contextlib.suppress(ConfigError):
        parse(text)


def test_the_ladder_is_in_the_registry():
    assert all(REGISTRY[f"upstream-nfe{nfe}"].nfe == nfe for nfe in NFE_LADDER)
