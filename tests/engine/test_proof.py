import dataclasses

import pytest

from lab.config import parse
from lab.engine.proof import Seen, prove

ON_CUDA = Seen(
    module="overlay/f5_tts/infer/utils_infer.py",
    prepared=(),
    parameters="float16",
    vocoder_parameters="float32",
    steps_per_chunk=7,
    default_parameters="float16",
    graphs_of={"transformer": 0, "vocoder": 0},
    empty_cache_calls=0,
    device="cuda",
    dtypes={"autocast": "off", "vocoder input": "float32", "vocoder backbone": "float32"},
)


def failed(spec: str, **seen) -> list[str]:
    return [check.name for check in prove(parse(spec), dataclasses.replace(ON_CUDA, **seen)) if check.state == "failed"]


BASELINE = {"prepared": ("Tensor",), "empty_cache_calls": 1, "dtypes": {"autocast": "float16", "vocoder input": "float32"}}
OPTIMIZED = {"prepared": ("tuple",), "empty_cache_calls": 0, "dtypes": {"autocast": "float16", "vocoder input": "float16"}}


def test_a_configuration_that_did_what_it_says_is_engaged():
    assert failed("upstream-nfe7") == []
    assert failed("baseline", **BASELINE) == []
    assert failed("optimized", **OPTIMIZED) == []
    assert failed("compile", graphs_of={"transformer": 2, "vocoder": 1}) == []


@pytest.mark.parametrize(
    ("spec", "seen", "name"),
    [
        ("upstream-nfe7", {"module": "utils_infer.py"}, "overlay"),
        ("upstream-nfe7", {"steps_per_chunk": 32}, "steps"),
        ("upstream-nfe7", {"empty_cache_calls": 1}, "empty_cache"),
        ("baseline", {**BASELINE, "empty_cache_calls": 0}, "empty_cache"),
        ("optimized", {**OPTIMIZED, "empty_cache_calls": 1}, "empty_cache"),
        ("optimized", {**OPTIMIZED, "prepared": ("Tensor",)}, "reference cache"),
        ("rms-cache", {**BASELINE, "prepared": ()}, "reference cache"),
        ("baseline", {**BASELINE, "dtypes": {"autocast": "off", "vocoder input": "float32"}}, "FP16 autocast"),
        ("optimized", {**OPTIMIZED, "dtypes": {"autocast": "float16", "vocoder input": "float32"}}, "mel dtype"),
        ("upstream-nfe7:model_dtype=fp32", {}, "model dtype"),
        ("vocoder-fp16", {"vocoder_parameters": "float16"}, "vocoder dtype"),
        ("compile-wrapper", {}, "compiled"),
        ("compile", {}, "compiled"),
        ("compile", {"graphs_of": {"transformer": 0, "vocoder": 1}}, "compiled"),
        ("upstream-nfe7", {"parameters": "float32"}, "model dtype"),
    ],
)
def test_a_statement_that_did_not_hold_is_named(spec, seen, name):
    assert failed(spec, **seen) == [name]


def test_what_only_cuda_can_show_is_not_applicable_on_a_cpu():
    states = {
        check.name: check.state
        for check in prove(
            parse("optimized"),
            dataclasses.replace(ON_CUDA, device="cpu", prepared=("tuple",), parameters="float32", default_parameters="float32"),
        )
    }
    assert states["FP16 autocast"] == states["mel dtype"] == "not applicable"
    assert "failed" not in states.values()
