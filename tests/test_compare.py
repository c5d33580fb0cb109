import dataclasses

import pytest

from lab import voices
from lab.compare import ComparisonError, Failure, compare, comparison_facts, make_request
from lab.config import parse_list
from lab.engine.clip import Clip
from lab.engine.device import Device
from lab.engine.process import Cancel, Cancelled
from lab.errors import LabError
from tests import fakes


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    with fakes.fake_pool() as pool:
        yield pool


FEMALE = voices.find_voice("demo-female")


def test_clips_come_in_the_order_asked_for_on_warm_workers(pool):
    clips = list(compare(pool, parse_list("optimized,baseline,upstream"), fakes.request(), "v"))
    assert [clip.config.name for clip in clips] == ["optimized", "baseline", "upstream"]
    assert all(isinstance(clip, Clip) and clip.result.warm_engine for clip in clips)


def test_a_configuration_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    with fakes.fake_pool(device=Device("cpu", "a CPU", "2", compiler=False)) as pool:
        items = list(compare(pool, parse_list("baseline,compile,optimized"), fakes.request(), "v"))
    assert [type(item) for item in items] == [Clip, Failure, Clip]
    assert "C++ compiler" in items[1].message


def test_clips_of_different_length_are_not_compared(pool):
    with pytest.raises(ComparisonError, match="23000 samples and baseline 24000"):
        list(compare(pool, parse_list("baseline,optimized:nfe=6"), fakes.request("longer"), "v"))


def test_a_patch_set_that_cannot_be_applied_does_not_take_the_others_with_it(pool):
    items = list(compare(pool, parse_list("baseline,optimized:patches=02,upstream:patches=99"), fakes.request(), "v"))
    assert [type(item) for item in items] == [Clip, Failure, Failure]
    assert "applies on top of 01-ishowtts-baseline" in items[1].message
    assert "no patch '99'" in items[2].message


def test_samples_that_are_not_numbers_are_a_failure_of_that_configuration_alone(pool):
    items = list(compare(pool, parse_list("baseline,optimized:nfe=6,upstream"), fakes.request("overflow"), "v"))
    assert [type(item) for item in items] == [Clip, Failure, Clip]
    assert "not numbers" in items[1].message


def test_compiled_code_is_warmed_up_for_each_text(pool):
    seen = []
    for _ in range(2):
        list(compare(pool, parse_list("compile,upstream"), fakes.request(), "v", progress=lambda stage, *_: seen.append(stage)))
    warm_ups = [stage for stage in seen if "warming up" in stage]
    assert len([stage for stage in warm_ups if stage.startswith("compile")]) == 2
    assert len([stage for stage in warm_ups if stage.startswith("upstream")]) == 1


def test_stopping_ends_the_comparison(pool):
    cancel = Cancel()
    items = compare(pool, parse_list("baseline,optimized"), fakes.request(), "v", cancel=cancel)
    next(items)
    cancel.set()
    with pytest.raises(Cancelled):
        next(items)


def test_facts_hold_every_clip_and_how_it_differs_from_the_first(pool):
    clips = list(compare(pool, parse_list("baseline,optimized"), fakes.request(), "v"))
    facts = comparison_facts(clips, "because")
    assert [clip["config"] for clip in facts["clips"]] == ["baseline", "optimized"]
    assert facts["clips"][0]["stages_ms"]["total"] == facts["clips"][0]["total_ms"]
    assert facts["differences"][0]["identical"] is True
    quieter = dataclasses.replace(clips[1].result, audio=clips[1].result.audio / 2, audio_sha256="other")
    facts = comparison_facts([clips[0], dataclasses.replace(clips[1], result=quieter)])
    assert facts["differences"][0]["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert facts["differences"][0]["same_mel"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Type something"),
        (" \n\t ", "Type something"),
        ("...", "say"),
        ("Hello 😀", "U\\+1F600"),
        ("<b>Hello</b>", "markup"),
        ("Привет", "CYRILLIC"),
        ("word " * 1800, "limit"),
    ],
)
def test_a_text_that_cannot_be_spoken_is_refused_with_what_to_do(pool, text, message):
    with pytest.raises(LabError, match=message):
        make_request(pool, text, FEMALE, 1)


def test_the_limit_of_the_length_can_be_changed(pool, monkeypatch):
    monkeypatch.setenv("LAB_MAX_SECONDS", "1")
    with pytest.raises(LabError, match="limit"):
        make_request(pool, "This takes longer than a second.", FEMALE, 1)


def test_a_seed_that_makes_no_sense_is_refused(pool):
    with pytest.raises(LabError, match="seed"):
        make_request(pool, "Hello.", FEMALE, -1)


def test_a_voice_whose_transcript_the_weights_cannot_read_is_refused(pool):
    with pytest.raises(LabError, match="transcript of this voice"):
        make_request(pool, "Hello.", voices.find_voice("upstream-zh"), 1)
