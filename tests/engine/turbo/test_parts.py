"""The parts of turbo that need no model: buckets, graphs kept and given up, voices, joints, and what is proved."""

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.audio import CROSS_FADE_SAMPLES
from lab.config import parse
from lab.engine.clip import RenderRequest
from lab.engine.proof import prove
from lab.engine.turbo import Speaker, Turbo, cross_fade, first_short, joined
from lab.engine.turbo.buckets import MAX_BATCH, MAX_ROWS, batches, divided, rows_for
from lab.engine.turbo.graphs import Graphs
from lab.engine.turbo.text import spread
from lab.engine.turbo.voices import Voices
from lab.engine.turbo_seen import TurboSeen
from tests.engine.test_proof import ON_CUDA
from tests.engine.turbo import models


@given(st.integers(1, MAX_ROWS))
def test_a_bucket_holds_its_length_and_wastes_little(frames):
    rows = rows_for(frames)
    assert frames <= rows <= MAX_ROWS
    assert rows_for(rows) == rows
    assert rows - frames < 64 or rows - frames < frames / 4


def test_there_are_few_buckets():
    assert len({rows_for(frames) for frames in range(1, MAX_ROWS + 1)}) <= 60


@given(st.lists(st.integers(1, MAX_ROWS), min_size=1, max_size=40))
def test_batches_hold_each_sequence_once_and_only_lengths_that_are_alike(lengths):
    groups = batches(lengths)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) in (1, 2, 4, MAX_BATCH)
        among = [lengths[position] for position in group]
        assert min(among) * 4 >= max(among) * 3


def test_eight_alike_are_one_batch_and_a_long_one_goes_alone():
    assert [len(group) for group in batches([500] * 8)] == [8]
    assert [len(group) for group in batches([500] * 7)] == [4, 2, 1]
    assert batches([900, 100]) == [[0], [1]]


@given(st.integers(1, 20_000), st.integers(1, 200))
def test_what_does_not_go_round_is_cut_into_parts_that_all_fit(units, multiprocessors):
    whole, parts = divided(units, multiprocessors)
    cut = units - whole
    assert whole >= 0
    assert cut * parts <= multiprocessors
    assert (parts == 1) == (cut == 0)
    if cut:
        assert whole % multiprocessors == 0
        assert 2 <= parts <= 4


def test_a_last_round_that_is_more_than_half_full_is_left_as_it_is():
    assert divided(704, 132) == (660, 3)
    assert divided(608, 132) == (608, 1)
    assert divided(660, 132) == (660, 1)
    assert divided(40, 132) == (40, 1)


@given(st.integers(0, 300), st.integers(1, 900))
def test_tokens_are_spread_over_frames_as_upstream_repeats_them(tokens, frames):
    from f5_tts.model.backbones.dit import TextEmbedding

    embedding = TextEmbedding(10, 1, average_upsampling=True)
    rows = max(tokens, frames)
    text = torch.arange(rows, dtype=torch.float32)[None, :, None]
    mask = (torch.arange(rows) < tokens)[None]
    want = embedding.average_upsample_text_by_mask(text, mask, torch.tensor([frames]))[0, :frames, 0]
    index = np.zeros(frames, np.int32)
    spread(index, tokens)
    assert index.tolist() == want.tolist()


def kept_by(graphs, *keys):
    for key in keys:
        graphs.get(key, dict, lambda *_: None)
    return list(graphs._kept)


def test_the_least_recently_used_graph_is_given_up_first(monkeypatch):
    graphs = Graphs(most=2)
    monkeypatch.setattr(graphs, "_capture", lambda *_: SimpleNamespace())
    assert kept_by(graphs, "a", "b", "a", "c") == ["a", "c"]
    assert graphs.counters.evictions == 1
    assert graphs.kept == 2


def test_a_capture_that_fails_is_counted_with_its_reason(monkeypatch):
    graphs = Graphs()
    monkeypatch.setattr(graphs, "_capture", lambda *_: (_ for _ in ()).throw(RuntimeError("no capture here\nand more")))
    with pytest.raises(RuntimeError):
        graphs.get("a", dict, lambda *_: None)
    assert graphs.counters.failures == 1
    assert graphs.counters.last_failure == "no capture here"
    assert graphs.kept == 0


def test_on_a_cpu_nothing_is_captured_and_why_is_said():
    turbo = Turbo(models.small())
    assert turbo.no_graphs == turbo.no_kernels == "no CUDA device"
    assert turbo.counters.captures == 0
    turbo.close()


@given(st.lists(st.text("abcz é。", max_size=12), min_size=1, max_size=3))
def test_texts_become_the_numbers_that_upstream_gives_them(lines):
    from f5_tts.model.utils import list_str_to_idx

    spelled = [[*list(line), "a"] for line in lines]
    want = [[number for number in line if number != -1] for line in list_str_to_idx(spelled, models.VOCABULARY).tolist()]
    assert Turbo.tokens(SimpleNamespace(model=SimpleNamespace(vocab_char_map=models.VOCABULARY)), spelled) == want


def test_a_voice_is_known_by_what_is_in_its_file_and_few_are_kept(tmp_path):
    asked = []
    voices = Voices(lambda path, text: asked.append((path, text)) or object(), most=2)
    one, two = tmp_path / "one.wav", tmp_path / "two.wav"
    one.write_bytes(b"sound")
    two.write_bytes(b"sound")
    first = voices.get(str(one), "Hello.")
    assert voices.get(str(two), "Hello.") is first  # another name
    assert voices.get(str(one), "Good day.") is not first  # another transcript
    one.write_bytes(b"other")
    os.utime(one, ns=(1, 1))  # the clock of a file system may not have moved since it was written
    assert voices.get(str(one), "Hello.") is not first  # the file was changed
    assert len(voices) == 2
    assert len(asked) == 3
    voices.forget()
    assert len(voices) == 0


WAVES = st.lists(st.integers(1, 3 * CROSS_FADE_SAMPLES), min_size=1, max_size=5)


def sounds(lengths):
    rng = np.random.default_rng(len(lengths))
    return [rng.standard_normal(length).astype(np.float32) for length in lengths]


def by_upstream(waves, monkeypatch):
    """What `infer_batch_process` makes of these waves."""
    from f5_tts.infer import utils_infer

    ready = iter(waves)
    model = SimpleNamespace(sample=lambda **_: (torch.zeros(1, 400, 100), None))
    vocoder = SimpleNamespace(decode=lambda _: torch.from_numpy(next(ready))[None])
    monkeypatch.setattr(utils_infer, "ThreadPoolExecutor", _InOrder)
    reference = (torch.full((1, 24_000), 0.5), 24_000)
    return next(
        utils_infer.infer_batch_process(reference, "hello. ", ["some text here"] * len(waves), model, vocoder, progress=None, device="cpu")
    )[0]


class _InOrder:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, work, *arguments):
        made = work(*arguments)
        return SimpleNamespace(result=lambda: made)


@pytest.mark.parametrize("lengths", [[9000], [9000, 8000], [9000, 100, 9000], [5, 9000, 4000, 4000]])
def test_chunks_are_joined_as_upstream_joins_them(lengths, monkeypatch):
    waves = sounds(lengths)
    assert np.allclose(joined(waves), by_upstream(waves, monkeypatch), atol=1e-6)


class _Spoken(Speaker):
    """A speaker whose chunks are known."""

    def __init__(self, waves):
        self.waves = waves

    def pieces(self, voice, chunks, speed, noise):
        return list(chunks)

    def render(self, voice, pieces, settings, **_):
        return [self.waves[int(piece)] for piece in pieces], []


@given(WAVES)
def test_what_is_streamed_is_what_is_joined(lengths):
    waves = sounds(lengths)
    parts = list(_Spoken(waves).stream(None, [str(number) for number in range(len(waves))], None, None))
    assert all(len(part) for part in parts)
    assert np.array_equal(np.concatenate(parts), joined(waves))


@given(WAVES)
def test_a_joint_takes_the_overlap_and_nothing_else(lengths):
    before, after = sounds([lengths[0], lengths[-1]])
    done, rest = cross_fade(before, after)
    assert len(done) + len(rest) == len(before) + len(after) - min(CROSS_FADE_SAMPLES, len(before), len(after))


@given(st.text("abc ,.é！", max_size=300))
def test_a_first_chunk_is_short_and_nothing_is_lost(text):
    start, rest = first_short(text)
    assert "".join((start + rest).split()) == "".join(text.split())
    if rest:
        assert 10 < len(start.encode()) <= 48


def test_a_first_chunk_ends_where_a_speaker_could_pause():
    assert first_short("Well, that is it. And there is more to say about all of this.") == (
        "Well, that is it.",
        "And there is more to say about all of this.",
    )
    assert first_short("At the end of the garden, a boy sat under the tree and read.")[0] == "At the end of the garden,"
    assert (
        first_short("One two three four five six seven eight nine ten eleven twelve")[0]
        == "One two three four five six seven eight nine ten"
    )
    assert first_short("Short.") == ("Short.", "")


TURBO = TurboSeen(
    batches=((1, 1216),),
    replayed=True,
    no_graphs="",
    no_kernels="",
    attention="Gluon and Triton",
    captures=0,
    capture_ms=0.0,
    graphs=3,
    graph_mb=50.0,
)


def checks(spec="turbo-nfe7", device="cuda", parameters="float16", **changes):
    how = dataclasses.replace(TURBO, **changes)
    seen = dataclasses.replace(ON_CUDA, turbo=how, device=device, parameters=parameters, default_parameters=parameters)
    return {check.name: check for check in prove(parse(spec), seen)}


def test_turbo_proves_its_graphs_and_kernels():
    found = checks()
    assert found["turbo"].detail == "batches of 1 × 1,216 frames"
    assert found["turbo kernels"].detail == "fused; attention by Gluon and Triton"
    assert {name: check.state for name, check in found.items() if "turbo" in name} == dict.fromkeys(
        ("turbo", "turbo graphs", "turbo kernels"), "ok"
    )


def test_a_fallback_on_a_card_is_a_failure_that_says_why():
    found = checks(no_graphs="a capture failed: out of luck", replayed=False)
    assert (found["turbo graphs"].state, found["turbo graphs"].detail) == ("failed", "a capture failed: out of luck")
    assert checks(replayed=False)["turbo graphs"].state == "failed"
    assert checks(no_kernels="Triton is missing")["turbo kernels"].state == "failed"
    assert prove(parse("turbo-nfe7"), ON_CUDA)[-1].detail == "upstream's sampler was used"


def test_what_a_cpu_does_not_have_or_is_left_out_is_said_and_not_failed():
    found = checks(device="cpu", parameters="float32", no_graphs="no CUDA device", no_kernels="no CUDA device", replayed=False)
    assert (found["turbo graphs"].state, found["turbo graphs"].detail) == ("not applicable", "no CUDA device")
    assert checks("turbo-nfe7:without=graphs", no_graphs="left out", replayed=False)["turbo graphs"].state == "not applicable"
    assert checks(parameters="float32", no_kernels="FP32 is computed …")["turbo kernels"].state == "not applicable"


@pytest.mark.parametrize(("state", "told", "left"), [("cold", ["forget"], False), ("warm", ["prepare"], True)])
def test_a_voice_that_is_new_is_forgotten_by_turbo_and_by_upstream(tmp_path, state, told, left):
    from lab.engine.rendering import Engine

    prepared, heard = tmp_path / "prepared.wav", []
    prepared.write_bytes(b"sound")
    engine = object.__new__(Engine)
    engine._upstream = SimpleNamespace(_ref_audio_cache={"hash": str(prepared)})
    engine.turbo = SimpleNamespace(forget=lambda: heard.append("forget"), prepare=lambda _: heard.append("prepare"))
    engine._set_references(RenderRequest("Good day.", "voice.wav", "A voice.", reference_cache=state), (torch.zeros(1, 8), 24_000))
    assert heard == told
    assert prepared.exists() is bool(engine._upstream._ref_audio_cache) is left
