"""Turbo in real workers with the demo weights: the lab's whole way from a text to a clip."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lab import voices
from lab.__main__ import app
from lab.compare import make_request
from lab.config import parse
from lab.engine.pool import EnginePool
from lab.engine.process import EngineError
from lab.engine.weights import resolve

pytestmark = pytest.mark.engine
LONG = (
    "This sentence is long enough to fill a good part of the first piece that is made of it, and it goes on. So is this one, which comes after it and is"
    " read with another breath, as long as there is air. And here is the third of them, which ends it, but not before a comma or two, and after those"
    " there is a little more. What follows is the last part of it all, and it is said with less haste."
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory, warm_workers, cpu):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        with EnginePool(resolve("demo"), cpu, command=warm_workers) as pool:
            yield pool


@pytest.fixture(scope="module")
def request_for(pool):
    voice = voices.default_voice("demo")
    return lambda text, **changes: dataclasses.replace(make_request(pool, text, voice, 1), **changes)


def rendered(pool, request, *specs):
    clips = [pool.render(parse(spec), request) for spec in specs]
    assert [clip.result.invalid for clip in clips] == [()] * len(clips)
    return clips


@pytest.fixture(scope="module")
def several(pool, request_for):
    """A text of more than one chunk: by upstream, by turbo, and by turbo one chunk after another."""
    return rendered(pool, request_for(LONG), "upstream-nfe4", "turbo:nfe=4", "turbo:nfe=4:without=batching")


def is_upstreams(turbo, upstream):
    assert turbo.result.chunks == upstream.result.chunks
    assert turbo.result.noise_sha256 == upstream.result.noise_sha256
    assert np.abs(turbo.result.mel - upstream.result.mel).max() < 1e-3  # of values down to -11.5, after FP32 weights of a trained model
    assert np.abs(turbo.samples() - upstream.samples()).max() < 5e-4  # the vocoder makes more of it: 1.0e-4 and 1.5e-4 on two processors
    assert {check.name: check.detail for check in turbo.result.engagement.checks}["turbo graphs"] == "no CUDA device"


def test_a_clip_of_one_chunk_is_upstreams_within_rounding(pool, request_for):
    upstream, turbo = rendered(pool, request_for("Good day."), "upstream-nfe4", "turbo:nfe=4")
    assert len(turbo.result.chunks) == 1
    is_upstreams(turbo, upstream)


def test_a_clip_of_several_chunks_is_upstreams_within_rounding(several):
    upstream, turbo, _ = several
    assert len(turbo.result.chunks) > 1
    is_upstreams(turbo, upstream)


def test_a_voice_that_is_new_to_the_process_gives_the_same_clip(pool, request_for):
    warm, cold = (rendered(pool, request_for("Good day.", reference_cache=state), "turbo:nfe=4")[0] for state in ("warm", "cold"))
    assert warm.result.audio_sha256 == cold.result.audio_sha256
    assert cold.result.stages_ms["reference"] > warm.result.stages_ms["reference"]


def test_chunks_one_by_one_give_the_same_as_in_a_batch(several):
    _, together, apart = several
    assert np.abs(together.samples() - apart.samples()).max() < 1e-4
    batches = {check.name: check.detail for check in apart.result.engagement.checks}["turbo"]
    assert batches.count("1 ×") == len(apart.result.chunks)


def test_the_report_of_another_sampler_is_refused(pool, request_for):
    with pytest.raises(EngineError, match="sampler=turbo"):
        pool.report_turbo(parse("upstream-nfe4"), request_for("Good day."))


def test_the_command_reports_steps_batches_and_the_first_sound(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["turbo", "turbo:nfe=1", "--weights", "demo", "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert [step["frames"] for step in report["steps"]] == [300, 500]
    assert all(step["ms"] > 0 and step["gflop"] > 0 for step in report["steps"])
    assert report["no_graphs"] == "no CUDA device"
    assert report["captures_meanwhile"] == 0
    assert report["first_audio_ms"] <= report["streamed_ms"]
    assert [batch["utterances"] for batch in report["batches"]] == [2]
