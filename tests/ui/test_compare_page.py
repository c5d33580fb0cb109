"""The Compare page over a pool without a model: what it computes, and what a hostile or hurried person gets."""

import json
import threading
import time
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.engine.clip import wav_bytes
from lab.ui import results
from lab.ui.app import build_app
from lab.ui.compare_page import _OUTPUTS, ComparePage
from lab.ui.context import ClipCache, Jobs
from lab.ui.words import plain
from tests import fakes

TAB = SimpleNamespace(session_hash="tab", headers={"origin": "http://lab.example"}, query_params={})


@pytest.fixture
def context(tmp_path):
    with fakes.lab_context(tmp_path) as context:
        yield context


@pytest.fixture
def page(context):
    return ComparePage(context)


def no_progress(*_args, **_settings):
    return None


def generate(page, text="Hello there.", specs=("baseline", "optimized"), voice="demo-female", seed=1, tab=TAB):
    return [dict(zip(_OUTPUTS, out, strict=True)) for out in page.generate(text, voice, list(specs), seed, "warm", tab, no_progress)]


def test_each_row_appears_as_soon_as_it_is_ready(page):
    outputs = generate(page)
    rows = [out["table"]["value"]["RTF"].tolist() for out in outputs if isinstance(out["table"], dict) and "value" in out["table"]]
    assert rows[0] == ["…", "…"]
    assert rows[1] == ["0.100", "…"]
    assert rows[-1] == ["0.100", "0.100"]
    assert outputs[-1]["status"].startswith("Rendered 2 of 2. optimized gives exactly the samples of baseline.")


def test_the_player_gets_one_track_a_clip_and_the_difference_where_the_mels_are_the_same(page):
    tracks = json.loads(generate(page, specs=("baseline", "optimized"))[-1]["player"])["tracks"]
    assert [track["label"] for track in tracks] == ["baseline", "optimized"]
    assert len({track["token"] for track in tracks}) == 2
    clip = page.context.clips.fetch(tracks[0]["token"])
    assert results.samples_of(clip).shape == (24_000,)


def test_a_difference_can_be_heard_with_its_gain_stated(context):
    rng = np.random.default_rng(0)
    first = rng.standard_normal(24_000).astype(np.float32) * 0.1
    facts = {
        "clips": [{"config": name, "settings": {"nfe": 7}, "rtf": 0.1, "sample_rate": 24_000} for name in ("a", "b")],
        "differences": [{"a": "a", "b": "b", "same_mel": True, "identical": False}],
    }
    shown = results.Shown(facts, (wav_bytes(first), wav_bytes(first * np.float32(0.999))))
    tracks = results.tracks(shown, context.clips)
    assert tracks[-1].label == "difference: b"
    assert tracks[-1].note.startswith("minus a, +")
    assert np.abs(results.samples_of(context.clips.fetch(tracks[-1].token))).max() == pytest.approx(10 ** (-12 / 20), rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "Type something"),
        ({"text": "😀"}, "U+1F600"),
        ({"text": "<script>alert(1)</script>"}, "markup"),
        ({"text": "word " * 1800}, "limit"),
        ({"specs": ("baseline",)}, "2 to 4"),
        ({"specs": ("baseline", "fast")}, "no configuration"),
        ({"specs": ("baseline", "optimized:nfe=x")}, "whole number"),
        ({"seed": None}, "whole number"),
        ({"voice": "/etc/passwd"}, "not in the menu"),
        ({"voice": "own:../../etc/passwd"}, "no such voice"),
        ({"voice": "own:/etc/passwd"}, "no such voice"),
    ],
)
def test_bad_input_gives_a_message_and_leaves_the_page_usable(page, change, message):
    (out,) = generate(page, **change)
    assert message in out["status"].replace("\\", "")


def test_stop_frees_the_engine_and_says_so(page):
    threading.Timer(1.0, page.stop, [TAB]).start()
    began = time.monotonic()
    out = generate(page, text="sleep")[-1]
    assert time.monotonic() - began < 10
    assert "Stopped" in out["status"]
    assert "Rendered 2 of 2" in generate(page)[-1]["status"]


def test_a_browser_that_goes_away_in_the_middle_frees_the_engine(page):
    job = page.generate("sleep", "demo-female", ["baseline", "optimized"], 1, "warm", TAB, no_progress)
    next(job)
    job.close()
    assert "Rendered 2 of 2" in generate(page)[-1]["status"]


def test_a_page_whose_display_fails_comes_back_to_life(page, monkeypatch):
    monkeypatch.setattr("lab.ui.results.shown", lambda *_: 1 / 0)
    out = generate(page)[-1]
    assert "Not finished" in out["status"]


def test_facts_do_not_give_away_the_id_of_a_persons_own_voice(page, context):
    from pathlib import Path

    import lab

    wav = (Path(lab.__file__).parent / "data/demo/voices/female.wav").read_bytes()
    stored = context.store.save_voice("Mine", "And all the pins of the tabernacle.", "en", wav, "I agree.")
    out = generate(page, voice=f"own:{stored.id}")[-1]
    assert "Rendered 2 of 2" in out["status"]
    assert {clip["voice"] for clip in out["state"].facts["clips"]} == {"own voice"}
    assert stored.id not in json.dumps(out["state"].facts)


def test_an_engine_that_dies_is_said_in_its_row_and_the_next_render_works(page):
    out = generate(page, text="die")[-1]
    assert all("died in the middle" in cell for cell in out["table"]["value"]["Against the first"])
    assert "Rendered 2 of 2" in generate(page)[-1]["status"]


def test_a_saved_comparison_opens_again_as_it_was(page, context):
    done = generate(page, specs=("baseline", "optimized:nfe=6"))[-1]
    link, button = page.save(done["state"], TAB)
    assert link["value"].startswith("http://lab.example/?c=")
    assert button["interactive"] is False
    token = link["value"].split("=")[1]
    opened = page.open(SimpleNamespace(**{**vars(TAB), "query_params": {"c": token}}))
    out = dict(zip(_OUTPUTS, opened, strict=False))
    assert out["state"].wavs == done["state"].wavs
    assert out["table"]["value"].equals(done["table"]["value"])
    assert opened[len(_OUTPUTS)] == "Hello there."
    assert opened[len(_OUTPUTS) + 1]["value"] == ["baseline", "optimized:nfe=6"]


@pytest.mark.parametrize("token", ["x", "A" * 22, "../../etc/passwd", "' OR 1=1 --"])
def test_a_link_to_nothing_says_so(page, token):
    opened = page.open(SimpleNamespace(**{**vars(TAB), "query_params": {"c": token}}))
    assert "no comparison under this link" in opened[0]


def test_random_values_cannot_be_heard_or_saved(page, context, monkeypatch):
    out = generate(page)[-1]
    facts = json.loads(json.dumps(out["state"].facts))
    for clip in facts["clips"]:
        clip["storable"] = False
    silent = results.Shown(facts, ())
    shown = dict(zip(_OUTPUTS, page.show(silent, [], ""), strict=True))
    assert json.loads(shown["player"])["tracks"] == []
    assert shown["save"]["interactive"] is False
    with pytest.raises(gr.Error):
        page.save(silent, TAB)


def test_a_variant_is_added_to_the_comparison(page):
    change = page.variant("optimized", "nfe", "6", ["baseline"])
    assert change["value"] == ["baseline", "optimized:nfe=6"]
    with pytest.raises(gr.Error, match="whole number"):
        page.variant("optimized", "nfe", "six", ["baseline"])


def test_the_notes_say_what_has_no_effect_on_this_device(page):
    assert "Without effect here: the FP16 autocast" in page.notes(["baseline"]).replace("\\", "")


def test_the_estimate_says_seconds_and_the_limit(page):
    assert page.estimate("Hello there, how are you?", "demo-female").startswith("About")
    assert "over the limit of 120 s" in page.estimate("word " * 1800, "demo-female")
    assert "Type something" in page.estimate("", "demo-female")


def test_the_menu_has_no_voice_that_the_weights_do_not_know(page):
    assert [value for _, value in page.voice_choices()] == ["demo-female", "demo-male", "demo-female-quiet"]


def test_no_endpoint_of_the_app_is_open(context):
    app = build_app(context)
    assert app.api_open is False


@given(st.text(max_size=60))
def test_plain_leaves_nothing_to_render(text):
    assert "<" not in plain(text)
    assert plain(text).replace("\\", "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text.replace("\\", "")


def test_the_clip_cache_is_bounded_and_names_equal_audio_apart():
    cache = ClipCache(limit=100)
    one, other = cache.add(b"x" * 40), cache.add(b"x" * 40)
    assert one != other
    cache.fetch(one)
    third = cache.add(b"y" * 40)
    assert cache.fetch(one) == b"x" * 40
    assert cache.fetch(third) == b"y" * 40
    with pytest.raises(KeyError):
        cache.fetch(other)


def test_a_second_job_of_the_same_tab_stops_the_first():
    jobs = Jobs()
    first = jobs.begin("tab")
    second = jobs.begin("tab")
    assert first.is_set
    assert not second.is_set
    jobs.end("tab", first)
    assert jobs.stop("tab")
    assert second.is_set
