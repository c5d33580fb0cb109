import gzip
import json

import pytest

from lab import voices
from lab.config import parse
from lab.engine.clip import RenderRequest
from lab.engine.pool import EnginePool
from lab.engine.weights import resolve

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def profiled(tmp_path_factory, cpu, warm_workers):
    trace = tmp_path_factory.mktemp("profile") / "trace.json.gz"
    voice = voices.default_voice("demo")
    request = RenderRequest("Hello there.", str(voice.path), voice.transcript)
    with EnginePool(resolve("demo"), cpu, command=warm_workers) as pool:
        return pool.profile(parse("upstream:nfe=2"), request, trace), trace


def test_the_profile_names_the_hottest_operators_and_their_shares_add_up(profiled):
    profile, _ = profiled
    names = [row.name for row in profile.operators]
    assert "aten::addmm" in names[:5]
    assert [row.ms for row in profile.operators] == sorted((row.ms for row in profile.operators), reverse=True)
    assert 0.5 < sum(row.share for row in profile.operators) <= 1.0001
    assert profile.kernels == ()


def test_stages_and_steps_are_those_of_an_utterance_that_was_not_profiled(profiled):
    profile, _ = profiled
    assert len(profile.result.steps_ms) == 2
    assert sum(profile.result.stages_ms.values()) == pytest.approx(profile.result.total_ms, rel=0.01)
    assert profile.result.audio is None


def test_the_trace_is_one_that_chrome_and_perfetto_read(profiled):
    profile, trace = profiled
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sum(event["name"] == "lab solver step" for event in events) == 2
    assert profile.launches_per_step > 300


def test_the_share_of_the_limit_is_work_over_time_over_rate(profiled):
    profile, _ = profiled
    assert profile.share_of_limit == pytest.approx(profile.flop_per_step / (profile.step_ms / 1000) / profile.peak_flops)
    assert 0.02 < profile.share_of_limit < 1.2
    assert profile.vocoder_flop > 0


def test_the_work_of_a_step_is_about_that_of_its_matrix_products(profiled):
    """2 FLOP for each weight of each token, for both branches of the guidance, and the attention; convolutions are small here."""
    import yaml

    from lab.engine.weights import DEMO_DIR

    profile, _ = profiled
    arch = yaml.safe_load((DEMO_DIR / "config.yaml").read_text())["model"]["arch"]
    dim, depth, frames = arch["dim"], arch["depth"], profile.result.chunks[0].frames
    inner = arch["heads"] * 64  # upstream's size of a head
    block = 4 * dim * inner + 2 * arch["ff_mult"] * dim * dim  # q, k, v, out, and the two of the feed-forward
    linear = 2 * 2 * frames * depth * block
    attention = 2 * depth * 4 * frames * frames * inner
    assert profile.flop_per_step > linear + attention
    assert profile.flop_per_step < 1.5 * (linear + attention)
