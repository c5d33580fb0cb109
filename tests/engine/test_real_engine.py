"""Through the real f5-tts, in real workers: with the demo weights, and with a checkpoint of one small layer where the sound does not matter."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

from lab import voices
from lab.bench.validate import Validation
from lab.compare import compare
from lab.config import REGISTRY, parse, parse_list
from lab.engine.clip import Clip, RenderRequest
from lab.engine.patching import build_overlay
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, EngineError, WorkerDied, ignore_progress
from lab.engine.weights import DEMO_DIR, resolve
from tests.fakes import wait_until

pytestmark = pytest.mark.engine
FIVE_CHUNKS = " ".join(
    f"This is sentence number {number} of a text that is cut into pieces before it is read and no two of these sentences are so short that they fit into one."
    for number in ("one", "two", "three", "four", "five")
)


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory) -> str:
    """A local checkpoint folder in the shape of upstream's config: one layer, seeded random values; its vocoder has one as well."""
    from lab.engine.compat import prepare_imports

    prepare_imports()
    import torch
    from safetensors.torch import save_file
    from vocos import Vocos

    from lab.engine import loading

    folder = tmp_path_factory.mktemp("small")
    config = yaml.safe_load((DEMO_DIR / "config.yaml").read_text())
    config["model"]["name"] = "small"
    config["model"]["arch"] |= {"dim": 64, "depth": 1, "heads": 1, "text_dim": 32, "conv_layers": 0}
    config["model"]["arch"] |= {"qk_norm": None, "text_embedding_average_upsampling": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(DEMO_DIR / "vocab.txt", folder)
    (folder / "vocos").mkdir()
    vocos = yaml.safe_load((DEMO_DIR / "vocos" / "config.yaml").read_text())
    vocos["backbone"]["init_args"] |= {"dim": 32, "intermediate_dim": 64, "num_layers": 1}
    vocos["head"]["init_args"]["dim"] = 32
    (folder / "vocos" / "config.yaml").write_text(yaml.safe_dump(vocos))
    torch.manual_seed(0)
    save_file(Vocos.from_hparams(str(folder / "vocos" / "config.yaml")).state_dict(), str(folder / "vocos" / "model.safetensors"))
    model = loading._build_cfm(resolve(str(folder)))
    loading._randomise(model)
    save_file({f"ema_model.{name}": value.contiguous() for name, value in model.state_dict().items()}, str(folder / "model.safetensors"))
    return str(folder)


@pytest.fixture(scope="module")
def small(small_weights, cpu, warm_workers):
    with EnginePool(resolve(small_weights), cpu, max_workers=16, command=warm_workers) as pool:
        yield pool


@pytest.fixture(scope="module")
def demo(cpu, warm_workers):
    with EnginePool(resolve("demo"), cpu, command=warm_workers) as pool:
        yield pool


def utterance(text: str = "Hello there, how are you?", voice: str = "demo-female", **settings) -> RenderRequest:
    found = voices.find_voice(voice)
    return RenderRequest(text, str(found.path), found.transcript, **settings)


def level_db(audio: np.ndarray) -> float:
    return 20 * float(np.log10(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))))


def test_a_warm_call_with_a_quiet_reference_is_louder_in_the_baseline_and_not_in_rms_cache(small):
    levels = {}
    for name in ("baseline", "rms-cache"):
        for state in ("cold", "warm"):
            request = utterance(voice="demo-female-quiet", reference_cache=state)
            levels[name, state] = level_db(small.render(parse(name), request).result.audio)
    assert levels["baseline", "warm"] - levels["baseline", "cold"] == pytest.approx(14, abs=0.5)  # the voice is 14 dB below the target
    assert levels["rms-cache", "warm"] == levels["rms-cache", "cold"] == levels["baseline", "cold"]


def test_the_defect_is_keyed_by_content_and_is_there_again_each_time(small):
    request = utterance(voice="demo-female-quiet", reference_cache="warm")
    between = utterance(voice="demo-male", reference_cache="warm")
    first = small.render(parse("baseline"), request)
    other = small.render(parse("baseline"), between)
    again = small.render(parse("baseline"), request)
    assert first.result.audio_sha256 == again.result.audio_sha256 != other.result.audio_sha256


@pytest.fixture(scope="module")
def overlays_and_clips(small):
    """One chunk and five chunks through one configuration per worker key, at one or two steps: noise does not depend on the number of steps."""
    keys = {small.key(config): config for config in REGISTRY.values() if config.compile != "blocks"}
    configs = [dataclasses.replace(config, nfe=1) for config in keys.values()]
    small.prepare(configs)
    return {text: [small.render(config, utterance(text)) for config in configs] for text in ("A short text.", FIVE_CHUNKS)}


def test_noise_is_the_same_in_all_configurations_for_one_chunk_and_for_five(overlays_and_clips):
    short, long = overlays_and_clips.values()
    assert {len(clip.result.chunks) for clip in short} == {1}
    assert {len(clip.result.chunks) for clip in long} == {5}
    for clips in (short, long):
        assert len(clips) >= 10
        assert len({clip.result.noise_sha256 for clip in clips}) == 1
        assert len({tuple(chunk.noise_sha256 for chunk in clip.result.chunks) for clip in clips}) == 1
    assert len({chunk.noise_sha256 for chunk in long[0].result.chunks}) == 5


def test_all_configurations_give_the_same_number_of_samples(overlays_and_clips):
    for clips in overlays_and_clips.values():
        assert len({clip.result.samples for clip in clips}) == 1
        assert all(clip.result.invalid == () for clip in clips if clip.config.compile == "none")


def test_f5_tts_comes_from_the_overlay_of_the_patches(overlays_and_clips):
    for clip in overlays_and_clips["A short text."]:
        assert clip.result.engagement.overlay == build_overlay(clip.config.patches).digest
        assert clip.result.engagement.checks[0].state == "ok"


def test_empty_cache_is_called_once_per_utterance_in_the_baseline_and_never_without_it(overlays_and_clips):
    for clips in overlays_and_clips.values():
        calls = {clip.config.name: clip.result.engagement.empty_cache_calls for clip in clips}
        assert [name for name, number in calls.items() if number] == ["baseline", "fp16-vocoder", "rms-cache"]
        assert set(calls.values()) == {0, 1}


def test_the_compile_wrapper_compiles_no_graph_and_says_that_it_did_not_engage(overlays_and_clips):
    clip = next(clip for clip in overlays_and_clips["A short text."] if clip.config.compile == "wrapper")
    assert clip.result.engagement.graphs == 0
    assert not clip.result.engagement.engaged
    assert "0 graphs" in clip.result.engagement.failures[0]
    assert clip.result.invalid[0].startswith("not engaged")  # a sample whose optimisation did not engage must not be counted


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler: apt-get install g++")
def test_compile_compiles_graphs_and_keeps_the_sound(small):
    first = small.render(parse("compile:nfe=2"), utterance())
    assert first.result.engagement.graphs > 0
    assert first.result.engagement.engaged
    assert "compiled while it was timed" in first.result.invalid[0]
    compiled = small.render(parse("compile:nfe=2"), utterance())
    assert compiled.result.invalid == ()
    eager = small.render(parse("upstream:nfe=2"), utterance())
    assert np.allclose(compiled.result.audio, eager.result.audio, atol=1e-3)


def test_the_vocoder_runs_in_the_dtype_that_the_configuration_names(overlays_and_clips):
    ran = {clip.config.name: clip.result.engagement.dtypes["vocoder backbone"] for clip in overlays_and_clips["A short text."]}
    assert (ran["vocoder-fp32"], ran["vocoder-fp16"], ran["vocoder-bf16"]) == ("float32", "float16", "bfloat16")


def test_everything_that_a_processor_can_show_of_the_optimised_configuration_is_on(small, overlays_and_clips):
    config = parse("optimized:nfe=2")
    validation = Validation(small, voices.default_voice("demo"), config, Cancel(), ignore_progress)
    checks = (
        validation._engaged,
        validation._model_dtype,
        validation._vocoder_dtype,
        validation._empty_cache,
        validation._reference_cache,
        validation._correct,
        validation._repeatable,
    )
    found = {line.check: line for check in checks for line in check()}
    assert {line.state for line in found.values()} == {"pass", "not applicable here"}
    forgotten = found["optimized:nfe=2: a cached reference keeps its level"].figure.rsplit(" ", 2)[1]
    assert float(forgotten) == pytest.approx(13.6, abs=0.05)  # dB, from the level of the quiet clip to the one that upstream raises it to
    assert found["optimized:nfe=2: the sound is that of golden at NFE 2"].figure == "identical samples"
    assert found["optimized:nfe=2: FP16 in the sampler"].state == "not applicable here"


def test_a_repeated_request_gives_the_same_samples_and_another_seed_does_not(small):
    config = parse("upstream-nfe4")
    first, again, other = (small.render(config, utterance(seed=seed)) for seed in (1, 1, 2))
    assert first.result.audio_sha256 == again.result.audio_sha256
    assert first.result.mel_sha256 == again.result.mel_sha256
    assert first.result.noise_sha256 != other.result.noise_sha256
    assert first.result.audio_sha256 != other.result.audio_sha256


def test_stages_add_up_to_the_total_and_there_is_one_time_per_step(demo):
    result = demo.render(parse("upstream-nfe4"), utterance()).result
    assert sum(result.stages_ms.values()) == pytest.approx(result.total_ms, rel=0.01)
    assert set(result.stages_ms) == {"reference", "text", "sampler", "vocoder", "transfer", "other"}
    assert len(result.steps_ms) == 4
    assert sum(result.steps_ms) <= result.stages_ms["sampler"]
    assert result.rtf == pytest.approx(result.total_ms / 1000 / result.seconds)


def test_the_clip_is_what_upstream_itself_renders_from_the_same_noise(demo):
    """The instruments change nothing: upstream's own functions, called by hand with the same noise, give the same samples."""
    from lab.engine.compat import prepare_imports

    prepare_imports()
    import soundfile
    import torch
    from f5_tts.infer import utils_infer

    from lab.engine import loading
    from lab.engine.instruments import paired_noise

    request = utterance()
    clip = demo.render(parse("upstream-nfe4"), request)
    model, vocoder = loading.load(resolve("demo"), parse("upstream-nfe4"), "cpu", lambda *_: None)
    noise = torch.from_numpy(paired_noise(request.text, 0, request.seed, clip.result.chunks[0].frames))
    file, transcript = utils_infer.preprocess_ref_audio_text(request.voice_path, request.voice_text)
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    randn, torch.randn = torch.randn, lambda *_, **__: noise.clone()
    try:
        audio, _, _ = next(
            utils_infer.infer_batch_process(
                (torch.from_numpy(samples.T.copy()), rate), transcript, [request.text], model, vocoder, nfe_step=4, device="cpu"
            )
        )
    finally:
        torch.randn = randn
        Path(file).unlink()
    assert np.array_equal(np.asarray(audio, dtype=np.float32), clip.result.audio)


def test_a_worker_killed_in_its_work_leaves_a_message_and_the_next_render_works(demo):
    config = parse("upstream-nfe32")
    demo.render(parse("upstream-nfe4"), utterance())

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "sampling" and done > 2:
            os.kill(demo.status()[0].pid, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="upstream-nfe32 died in the middle of its work"):
        demo.render(config, utterance(), progress=kill)
    assert demo.render(parse("upstream-nfe4"), utterance()).result.samples > 0


def test_a_sentence_without_a_place_to_cut_is_refused_when_it_is_too_long_for_upstream(small):
    config = parse("upstream:nfe=1")
    assert small.render(config, utterance("word and " * 40)).result.samples > 0
    with pytest.raises(EngineError, match="Put commas or full stops in"):
        small.render(config, utterance("word and " * 200))
    assert small.render(config, utterance()).result.samples > 0


def test_no_copy_of_a_persons_voice_is_left_in_the_temporary_folder(small_weights, cpu, warm_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with EnginePool(resolve(small_weights), cpu, command=warm_workers) as pool:
        pool.render(parse("upstream-nfe4"), utterance())
        assert list(tmp_path.glob("lab-worker-*"))
        assert list(tmp_path.rglob("*.wav")) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_in_the_temporary_folder_when_the_server_is_killed_in_the_middle_of_a_render(small_weights, warm_workers, tmp_path):
    program = f"""
from pathlib import Path
from lab.config import parse
from lab.engine.clip import RenderRequest
from lab.engine.device import Device
from lab.engine.pool import EnginePool
from lab.engine.weights import resolve
def say(stage, done, total):
    if stage == "sampling" and done:
        print([path.suffix for path in Path({str(tmp_path)!r}).rglob("*")], flush=True)
pool = EnginePool(resolve({small_weights!r}), Device("cpu", "a CPU", "2"), command={tuple(warm_workers)!r})
pool.render(parse("upstream:nfe=128"), {utterance(FIVE_CHUNKS)!r}, progress=say)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert ".wav" in server.stdout.readline()
        server.kill()
    assert wait_until(lambda: list(tmp_path.iterdir()) == [], 60)


def test_requests_from_many_threads_come_out_whole(small):
    with ThreadPoolExecutor(4) as threads:
        clips = list(threads.map(lambda seed: small.render(parse("upstream-nfe4"), utterance("Hi there.", seed=seed % 2)), range(6)))
    assert len({clip.result.audio_sha256 for clip in clips}) == 2


def test_random_values_are_timed_and_never_leave_the_worker(cpu):
    with EnginePool(resolve("random:demo"), cpu) as pool:
        clip = pool.render(parse("upstream-nfe4"), utterance())
    assert not clip.storable
    assert clip.result.audio is None
    assert clip.result.mel is None
    assert clip.result.invalid == ()
    assert clip.facts["storable"] is False
    with pytest.raises(Exception, match="random weights"):
        clip.wav()


def test_a_broken_checkpoint_is_refused_with_its_name(small_weights, cpu, warm_workers, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(small_weights, broken)
    config = yaml.safe_load((broken / "config.yaml").read_text())
    config["model"]["arch"]["depth"] = 3
    (broken / "config.yaml").write_text(yaml.safe_dump(config))
    with (
        EnginePool(resolve(str(broken)), cpu, command=warm_workers) as pool,
        pytest.raises(EngineError, match=r"The model of .*no checkpoint of this architecture.*[Mm]issing"),
    ):
        pool.render(parse("upstream-nfe4"), utterance())


def test_comparing_warms_up_and_gives_paired_clips(demo):
    seen = []
    clips = list(
        compare(
            demo, parse_list("baseline:nfe=4,optimized:nfe=4"), utterance(), "demo-female", progress=lambda stage, *_: seen.append(stage)
        )
    )
    assert [clip.config.name for clip in clips if isinstance(clip, Clip)] == ["baseline:nfe=4", "optimized:nfe=4"]
    assert all(clip.result.warm_engine for clip in clips)
    assert any("warming up" in stage for stage in seen)
