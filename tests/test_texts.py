import ast
import math
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import texts
from lab.texts import TextError, check, chunk_text, clean, estimate_frames, estimate_samples, estimate_seconds, sentences

DEMO = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.;:!?'-\"")
FEMALE = (105_778 / 24_000, "And all the pins of the tabernacle, and of the court round about, were of brass.")
MALE = (72_516 / 24_000, "How existences dally see more tenderest.")
#: Any string Python can hold, lone surrogates among them, with the awkward characters made likely.
ANY_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("ab .,;!?<>/&#x;$%{}\"'-\u200b\u0301\u0338e\u00a0\n\t\u2014\u2026\ud800\udc00\U0001f600\ufe0f\u202e，。你"),
    ),
    max_size=60,
)


def said(text: str, *, vocabulary: frozenset[str] | None = DEMO, seconds: float = 1.0) -> str:
    return check(text, vocabulary=vocabulary, vocabulary_name="demo", estimated_seconds=seconds, max_seconds=120)


def refused(text: str, *, vocabulary: frozenset[str] | None = DEMO, seconds: float = 1.0) -> str:
    with pytest.raises(TextError) as caught:
        said(text, vocabulary=vocabulary, seconds=seconds)
    return str(caught.value)


# --- the sentence file


def test_every_example_sentence_is_clean_and_has_its_own_id_and_label():
    all_sentences = sentences()
    assert all(clean(s.text) == s.text for s in all_sentences)
    assert len({s.id for s in all_sentences}) == len({s.label for s in all_sentences}) == len(all_sentences) == 9
    assert {s.language for s in all_sentences} == {"en", "zh"}


@pytest.mark.parametrize("sentence", sentences("en"), ids=lambda s: s.id)
def test_the_demo_weights_can_say_every_english_sentence(sentence):
    vocabulary = Path(texts.__file__).parent / "data" / "demo" / "vocab.txt"
    known = frozenset(vocabulary.read_text(encoding="utf-8").split("\n")) if vocabulary.exists() else DEMO
    assert said(sentence.text, vocabulary=known, seconds=estimate_seconds(sentence.text, *FEMALE)) == sentence.text
    assert not re.search("[0-9]", sentence.text)


def test_the_chinese_sentence_needs_weights_that_know_pinyin():
    (chinese,) = sentences("zh")
    assert "U+4ECA" in refused(chinese.text)
    assert said(chinese.text, vocabulary=None) == chinese.text
    assert said(chinese.text, vocabulary=DEMO | frozenset("，？") | {"ni3", "hao3"}) == chinese.text


@pytest.mark.parametrize("voice", [FEMALE, MALE], ids=["female", "male"])
def test_the_long_example_takes_several_chunks_and_the_paragraph_about_twenty_seconds(voice):
    by_id = {s.id: s.text for s in sentences()}
    seconds, transcript = voice
    max_chars = int(len(transcript + " ") / seconds * (22 - seconds))
    assert len(chunk_text(by_id["chunks"], max_chars)) >= 2
    assert 14 < estimate_seconds(by_id["paragraph"], *voice) < 25
    assert len(by_id["hello"]) < 10  # upstream's branch for short chunks


# --- cleaning


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("\u201cDon\u2019t\u201d \u2018go\u2019 \u00abnow\u00bb", '"Don\'t" \'go\' "now"'),
        ("a \u2013 b\u2014c \u2212 d\u2011e", "a - b-c - d-e"),
        ("well\u2026", "well..."),
        ("  a\u00a0b\r\n\tc\u2028d\u3000e  ", "a b c d e"),
        ("a\u200bb\ufeffc\u00add\x00e\x7f", "abcde"),
        ("\u202eevil\u202c \u2066x\u2069 \u200fy", "evil x y"),
        ("e\u0301", "é"),
        ("e\u200b\u0301", "é"),
        ("\ufb01ne", "fine"),
        ("Mixed CASE stays", "Mixed CASE stays"),
        ("你好\uff0c世界\u3002", "你好，世界。"),
    ],
)
def test_cleaning_makes_typographic_and_invisible_characters_plain(typed, plain):
    assert clean(typed) == plain


@given(ANY_TEXT)
@example("<\u200b\u0338")
@settings(deadline=None)  # the machine may be busy
def test_cleaning_twice_changes_nothing_more(text):
    once = clean(text)
    assert clean(once) == once


@given(ANY_TEXT)
@settings(deadline=None)  # the machine may be busy
def test_a_clean_text_holds_no_control_characters_and_no_runs_of_white_space(text):
    cleaned = clean(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in cleaned)
    assert "  " not in cleaned
    assert cleaned == cleaned.strip()


# --- the gate


def test_an_accepted_text_comes_back_clean():
    assert said(" It\u2019s  fine\u2026 ") == "It's fine..."


@pytest.mark.parametrize("text", ["", "   ", "\n\u200b\ufeff", "\u3164\ufe0f"])
def test_an_empty_text_asks_for_something_to_say(text):
    assert "Type something to say" in refused(text, vocabulary=None)


@pytest.mark.parametrize("text", ["...", "?!", "- - -", "\U0001f600", "_$%"])
def test_a_text_without_a_letter_or_digit_is_refused(text):
    assert "only punctuation" in refused(text, vocabulary=None)


def test_a_long_text_is_told_its_length_and_the_limit():
    message = refused("a b c", seconds=600.4)
    assert "about 600 s" in message
    assert "limit is 120 s" in message
    assert "parts" in message
    assert said("a b c", seconds=120) == "a b c"
    assert "limit" in refused("a b c", seconds=math.nan)


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b>",
        "end </x>",
        "<!-- hidden",
        "<script src=//evil.example>alert(1)</script>",
        "<img src=x onerror=alert(1)",
        "<?xml version='1.0'?>",
        "<\u200bscript>x",
        "fish &amp; chips",
        "&#60;b&#x3E;",
        '<break time="1s"/> hello',
    ],
)
@pytest.mark.parametrize("vocabulary", [DEMO, None], ids=["demo", "full"])
def test_markup_is_refused_without_being_repeated(text, vocabulary):
    message = refused(text, vocabulary=vocabulary)
    assert "looks like markup" in message
    assert not set("<>&") & set(message)
    assert "script" not in message


@pytest.mark.parametrize("text", ["I <3 you", "2 < 3 and 5 > 4", "this & that; those", "AT&T; no"])
def test_lone_signs_are_not_taken_for_markup(text):
    assert said(text, vocabulary=None) == text


def test_characters_the_weights_lack_are_named_with_code_point_and_name():
    message = refused("caf\u00e9 \U0001f600 5 < 6")
    assert message.startswith("The weights demo do not know these characters: é (U+00E9 LATIN SMALL LETTER E WITH ACUTE), ")
    assert "\U0001f600 (U+1F600 GRINNING FACE), U+003C LESS-THAN SIGN. " in message
    assert "<" not in message
    assert "choose weights" in message


def test_at_most_five_unknown_characters_are_named_and_the_rest_counted():
    message = refused("éèêëàáâ and ééé")
    assert message.count("U+") == 5
    assert "and 2 more" in message


def test_right_to_left_letters_are_named_without_being_shown():
    message = refused("\u05d0 a")
    assert "U+05D0 HEBREW LETTER ALEF" in message
    assert "\u05d0" not in message


def test_a_semicolon_passes_where_the_weights_know_the_comma_that_upstream_makes_of_it():
    assert said("one; two", vocabulary=DEMO - {";"}) == "one; two"
    assert "SEMICOLON" in refused("one; two", vocabulary=DEMO - {";", ","})


def test_half_a_character_is_refused_as_damaged():
    assert "lone surrogate" in refused("hello \ud83d", vocabulary=None)


@given(
    ANY_TEXT,
    st.sampled_from([DEMO, None, DEMO | {"ni3"}]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(allow_nan=True, allow_infinity=True),
)
@example("\ud800", None, 0.0, 1.0)
@settings(deadline=None)  # the machine may be busy
def test_any_string_is_returned_clean_or_refused_with_a_plain_message(text, vocabulary, estimated, limit):
    try:
        result = check(text, vocabulary=vocabulary, vocabulary_name="demo", estimated_seconds=estimated, max_seconds=limit)
    except TextError as error:
        message = str(error)
    else:
        assert result == clean(text) != ""
        return
    assert not set("<>&`{}$") & set(message)
    assert message.encode("utf-8").decode("utf-8") == message


# --- lengths


def upstream_function(file: str, name: str, **namespace):
    """One function out of the installed f5-tts, without the seconds that importing the package takes."""
    import importlib.util

    spec = importlib.util.find_spec("f5_tts")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("f5-tts is not installed: pip install -r requirements.txt")
    source = (Path(next(iter(spec.submodule_search_locations))) / file).read_text(encoding="utf-8")
    (function,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == name)
    exec(compile(ast.Module([function], []), file, "exec"), namespace)
    return namespace[name]


UPSTREAM_CHUNK_TEXT = upstream_function("infer/utils_infer.py", "chunk_text", re=re)


@given(
    st.one_of(
        st.text(max_size=300),
        st.text(st.sampled_from("ab é你，。！?.,;: \n\u3000"), max_size=300),
    ),
    st.integers(-50, 200),
)
@settings(deadline=None)  # the machine may be busy
def test_chunks_are_cut_where_upstream_cuts_them(text, max_chars):
    assert chunk_text(text, max_chars) == UPSTREAM_CHUNK_TEXT(text, max_chars)


def test_the_frames_of_one_chunk_follow_upstreams_formula():
    # 413 frames; the transcript of 80 bytes ends in ".": with " " it has 81, and infer_batch_process adds another space.
    assert len(FEMALE[1]) == 80
    text = "The birch canoe slid on the smooth planks."
    assert len(text) == 42
    assert estimate_frames(text, 413, FEMALE[1]) == int(413 / 82 * 42) == 211
    assert estimate_frames(text, 413, FEMALE[1], speed=1.25) == int(413 / 82 * 42 / 1.25) == 169
    assert estimate_seconds(text, *FEMALE) == 210 * 256 / 24_000


def test_a_chunk_under_ten_bytes_is_spoken_at_speed_three_tenths_whatever_the_speed():
    assert estimate_frames("Hi there.", 413, FEMALE[1], speed=1.5) == int(413 / 82 * 9 / 0.3) == 151
    assert estimate_frames("Hi thereX.", 413, FEMALE[1], speed=1.0) == int(413 / 82 * 10) == 50


def test_a_transcript_is_ended_as_upstream_ends_it():
    text = "the smooth planks"  # 17 bytes
    for transcript, size in (("abc", 6), ("abc.", 6), ("abc. ", 6), ("abc!", 7), ("你好。", 9)):
        assert estimate_frames(text, 100, transcript) == int(100 / size * 17), transcript


def test_every_join_takes_the_cross_fade_away():
    # One second of reference and a transcript of 8 bytes, 10 with its ending: chunks of up to int(10 / 1 * 21) = 210 bytes.
    first, second = "a" * 149 + ".", "b" * 99 + "."
    frames = [int(93 / 11 * 150), int(93 / 11 * 100)]
    assert frames == [1268, 845]
    assert estimate_frames(f"{first} {second}", 93, "x" * 8) == sum(frames)
    assert estimate_samples(f"{first} {second}", 24_000, "x" * 8) == (1267 + 844) * 256 - 3600
    assert estimate_seconds(f"{first} {second}", 1.0, "x" * 8) == ((1267 + 844) * 256 - 3600) / 24_000


def test_a_tiny_text_is_at_least_two_frames_and_more_tokens_than_frames_lengthen_it():
    tokens = 9000 + len(". ") + len(" ") + 10
    assert estimate_frames("b" * 10, 400, "x" * 9000) == tokens + 1 - 400
    assert estimate_frames("b" * 10, 500, "x" * 480, speed=10.0) == 2 > int(500 / 483 * 10 / 10)
    assert estimate_samples("b" * 10, 500 * 256, "x" * 480, speed=10.0) == 256
    assert estimate_frames("b" * 100_000, 93, "x" * 8) == 65_536 - 93


@cache
def upstream_tokens():
    pypinyin = pytest.importorskip("pypinyin")
    return upstream_function(
        "model/utils.py",
        "convert_char_to_pinyin",
        rjieba=pytest.importorskip("rjieba"),
        lazy_pinyin=pypinyin.lazy_pinyin,
        Style=pypinyin.Style,
    )


@given(st.text(st.sampled_from("ab é你好，。.,' "), min_size=1, max_size=80))
@settings(max_examples=50, deadline=None)
def test_tokens_are_never_counted_above_what_upstream_makes(text):
    assert sum(2 if texts._is_chinese(c) else 1 for c in text) <= len(upstream_tokens()([text])[0])


class FakeModel:
    """`CFM.sample` with its rules for the duration and nothing else."""

    def sample(self, cond, text, duration, **_):
        import torch

        reference_frames = cond.shape[-1] // 256 + 1  # a centred mel spectrogram
        frames = min(max(max(len(text[0]), reference_frames) + 1, duration), 65_536)
        return torch.zeros(1, frames, 1), None


class FakeVocoder:
    """A vocoder whose inverse STFT is centred."""

    def decode(self, mel):
        import torch

        return torch.zeros(1, (mel.shape[-1] - 1) * 256)


@given(
    st.lists(
        st.sampled_from(["Good day.", "你好，", "yes,", "Nobody in the village minded it at all;", "a" * 150 + "."]),
        min_size=1,
        max_size=12,
    ),
    st.integers(4_000, 300_000),
    st.sampled_from(["abc", "你好。", "How existences dally see more tenderest.", "Well, what of it!", "x" * 500]),
    st.sampled_from([0.5, 1.0, 1.3]),
)
@settings(max_examples=30, deadline=None)
def test_the_estimate_is_the_number_of_samples_that_upstream_itself_returns(parts, reference_samples, transcript, speed):
    torch, np = pytest.importorskip("torch"), pytest.importorskip("numpy")
    infer = upstream_function(
        "infer/utils_infer.py",
        "infer_batch_process",
        torch=torch,
        np=np,
        ThreadPoolExecutor=ThreadPoolExecutor,
        convert_char_to_pinyin=upstream_tokens(),
        target_sample_rate=24_000,
        hop_length=256,
        tqdm=None,
    )
    text = clean(" ".join(parts))
    # The two steps before it, word for word: `preprocess_ref_audio_text` ends the transcript, `infer_process` plans the chunks.
    ref_text = transcript
    if not ref_text.endswith(". ") and not ref_text.endswith("。"):
        ref_text += " " if ref_text.endswith(".") else ". "
    audio, sr = torch.ones(1, reference_samples), 24_000
    max_chars = int(len(ref_text.encode("utf-8")) / (audio.shape[-1] / sr) * (22 - audio.shape[-1] / sr) * speed)
    chunks = UPSTREAM_CHUNK_TEXT(text, max_chars=max_chars)
    wave, _, _ = next(infer((audio, sr), ref_text, chunks, FakeModel(), FakeVocoder(), progress=None, speed=speed, device="cpu"))
    assert estimate_samples(text, reference_samples, transcript, speed) == len(wave)
    assert estimate_seconds(text, reference_samples / 24_000, transcript, speed) == len(wave) / 24_000


@pytest.mark.parametrize(
    ("seconds", "speed"), [(0.0, 1.0), (0.01, 1.0), (math.inf, 1.0), (3.0, 0.0), (3.0, 1e-300), (3.0, math.inf), (3.0, math.nan)]
)
def test_an_empty_reference_or_an_impossible_speed_is_refused(seconds, speed):
    with pytest.raises(TextError):
        estimate_seconds("hello there you", seconds, "x", speed)


@given(ANY_TEXT, st.floats(0.1, 30), ANY_TEXT, st.floats(0.3, 3))
@settings(deadline=None)  # the machine may be busy
def test_the_estimate_of_anything_is_a_length_that_is_positive_where_there_is_a_text(text, seconds, transcript, speed):
    estimate = estimate_seconds(text, seconds, transcript, speed)
    assert 0 <= estimate < 1e6
    if clean(text):
        assert estimate_seconds(clean(text), seconds, transcript, speed) > 0


@given(st.integers(1, 40), st.floats(1, 15), st.floats(0.5, 2))
@settings(deadline=None)  # the machine may be busy
def test_saying_a_sentence_once_more_takes_longer(times, seconds, speed):
    sentence = "Nobody minded, because everyone was late. "
    lengths = [estimate_seconds((sentence * n).strip(), seconds, FEMALE[1], speed) for n in (times, times + 1)]
    assert lengths[0] < lengths[1]


def test_the_estimate_of_a_pasted_book_takes_no_time():
    book = "It was the best of times, it was the worst of times. " * 20_000
    assert estimate_seconds(clean(book), *FEMALE) > 50_000
