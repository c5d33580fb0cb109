from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import texts, voices
from lab.config import parse_list
from lab.engine.device import Device
from lab.engine.weights import resolve
from lab.errors import LabError
from lab.listening.model import MARGINS, TYPES, StudyError, Text
from lab.listening.ordering import (
    StudyOrder,
    check_order,
    choose_study_texts,
    margin_of,
    practice_text,
    read_open_until,
    systems_of,
    texts_of_file,
)
from lab.listening.staircase import LADDER
from tests import fakes

VOICE = voices.find_voice("demo-female")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXTS = (Text(id="one", text="One small text."), Text(id="two", text="And another one."))


def order(names="upstream,upstream-nfe7", **changes):
    return replace(StudyOrder("abx", parse_list(names, least=0), TEXTS), **changes)


def check(asked, weights="demo", device=fakes.CPU):
    return check_order(asked, VOICE, resolve(weights), device, NOW)


def test_a_sound_order_says_what_is_rendered():
    systems = check(order("upstream,upstream-nfe7,optimized"))
    assert [config.name for config in systems.all] == ["upstream", "upstream-nfe7", "optimized"]


LONG = Text(id="long", text="This text goes on for a good while, so that it takes more than twelve seconds to say it. " * 3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (order(type="guess"), "no test type 'guess'"),
        (order("upstream"), "2 to 6 configurations"),
        (order("upstream,upstream-nfe4,upstream-nfe5,upstream-nfe6,upstream-nfe7,upstream-nfe8,upstream-nfe10"), "there are 7"),
        (order(configs=parse_list("upstream") * 2), "named twice"),
        (order(trials=0), "1 to 200"),
        (order(trials=201), "1 to 200"),
        (order(margin=0.5), "between 0.5 and 1"),
        (order(margin=1.0), "share of right answers"),
        (order(type="ccr", margin=3.0), "between 0 and 3"),
        (order(type="mushra", margin=0.0), "between 0 and 100"),
        (order(margin=float("nan")), "between"),
        (order("upstream", type="staircase", margin=1.0), "has no margin"),
        (order(title="x" * 121), "120 is the most"),
        (order(title="two\nlines"), "on one line"),
        (order(open_until=NOW), "over already"),
        (order(open_until=datetime(2027, 1, 1)), "needs a time zone"),
        (order(other_seed=1), "another one than the study's seed"),
        (order(silence_ms=0), "above 0"),
        (order(silence_ms=float("nan")), "above 0"),
        (order(texts=()), "1 to 50 texts"),
        (order(texts=(*TEXTS, Text(id="three", text="One  small text."))), "stands there twice"),
        (order(type="mushra", texts=(LONG,)), "at most 12 s"),
        (order("upstream-nfe7", type="staircase"), "at least 32 steps"),
        (order("upstream,upstream-nfe7,vocoder-fp16", type="staircase"), "differ in their number of steps"),
        (order("upstream,upstream-nfe7,upstream-nfe4", type="staircase"), "16, 12, 10, 8, 6, 5 are missing"),
        (order("", type="staircase"), "takes one configuration"),
    ],
)
def test_what_cannot_become_a_study_is_refused_with_what_to_do(asked, message):
    with pytest.raises(StudyError, match=message):
        check(asked)


def test_random_weights_are_refused_because_their_audio_is_noise():
    for weights in ("random", "random:demo"):
        with pytest.raises(StudyError, match="noise"):
            check(order(), weights)


def test_a_configuration_that_the_device_cannot_run_is_refused():
    with pytest.raises(StudyError, match="compile cannot run on this device"):
        check(order("upstream,compile"), device=Device("cpu", "a CPU", "2", compiler=False))


def test_mushra_takes_as_many_configurations_as_make_twelve_rated_clips():
    ladder = [f"upstream-nfe{nfe}" for nfe in LADDER]
    assert len(systems_of("mushra", parse_list(ladder)).all) == 9
    with pytest.raises(StudyError, match="2 to 9 configurations"):
        systems_of("mushra", parse_list([*ladder, "golden"]))


def test_a_staircase_of_one_reference_has_every_rung_its_top_being_the_reference():
    systems = systems_of("staircase", parse_list("golden"))
    assert systems.levels == {"golden": 32} | {f"golden:nfe={nfe}": nfe for nfe in LADDER[1:]}
    assert [config.nfe for config in systems.others] == list(LADDER[1:])
    assert {replace(config, name="", nfe=32).digest for config in systems.all} == {systems.reference.digest}


def test_a_staircase_takes_rungs_that_are_given():
    systems = systems_of("staircase", parse_list(["golden", *(f"upstream-nfe{nfe}" for nfe in LADDER)]))
    assert systems.levels == {f"upstream-nfe{nfe}": nfe for nfe in LADDER}


@pytest.mark.parametrize("type", TYPES)
def test_without_a_margin_the_types_own_holds(type):
    assert margin_of(order(type=type)) == MARGINS[type]


@pytest.mark.parametrize("voice", voices.bundled_voices(), ids=lambda voice: voice.id)
def test_the_texts_to_start_with_take_two_to_six_seconds_and_leave_one_for_practice(voice):
    chosen = choose_study_texts("", voice)
    assert 5 <= len(chosen) <= 8
    seconds = [texts.estimate_seconds(text.text, voice.seconds, voice.transcript) for text in chosen]
    assert sum(2 <= length <= 6 for length in seconds) >= 5
    spare = practice_text(chosen, voice)
    assert spare is not None
    assert spare.text not in {text.text for text in chosen}
    assert len({text.text for text in chosen}) == len(chosen)


def test_texts_are_chosen_by_id_and_by_set():
    assert [text.id for text in choose_study_texts("rice, harvard", VOICE)] == ["rice", "harvard"]
    assert len(choose_study_texts("short", VOICE)) == 2
    with pytest.raises(LabError, match="no text or set"):
        choose_study_texts("nothing", VOICE)


def test_a_file_gives_a_text_per_line(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeffOne.\r\n\r\n  Two.  \n".encode())
    assert [(text.id, text.text) for text in texts_of_file(file)] == [("line 1", "One."), ("line 3", "Two.")]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match="not UTF-8"):
        texts_of_file(file)
    file.write_text("\n \n")
    with pytest.raises(StudyError, match="no text"):
        texts_of_file(file)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (None, None),
        (" ", None),
        ("2026-03-01", datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-03-01T18:00+01:00", datetime(2026, 3, 1, 17, tzinfo=UTC)),
        ("2026-03-01 18:00", datetime(2026, 3, 1, 18, tzinfo=UTC)),
    ],
)
def test_a_bare_date_means_the_end_of_that_day_and_a_time_without_a_zone_is_utc(written, read):
    assert read_open_until(written, NOW) == read


@pytest.mark.parametrize("written", ["soon", "2026-02-30", "2026-03-01T11:00", "2026-02-28", "9999-12-31", "9999-12-31T23:59-14:00"])
def test_a_date_that_is_none_or_is_over_is_refused(written):
    with pytest.raises(StudyError, match=r"is no date|over already"):
        read_open_until(written, NOW)


@given(day=st.dates(min_value=NOW.date(), max_value=datetime(2999, 1, 1).date()))
def test_a_study_is_open_through_all_of_the_day_that_is_named(day):
    until = read_open_until(day.isoformat(), NOW)
    last = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)
    assert last < until <= last + timedelta(seconds=1)
