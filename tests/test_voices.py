"""Voices: the bundled ones, the gate for a person's own clip, and importing it with consent."""

import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lab import voice_gate, voices
from lab.errors import LabError
from lab.store import NotFound, Store
from lab.voice_gate import VoiceError, check_clip, check_transcript, make_wav
from lab.voices import CONSENT_TEXT, bundled_voices, default_voice, find_voice, import_voice, open_voice

ROOT = Path(__file__).parents[1]
WORDS = "These are the words of the clip."
Audio = npt.NDArray[np.float64]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)
    store = Store.open(tmp_path / "data")
    yield store
    store.close()


def speech(seconds: float = 3.0, rate: int = 24_000, level: float = 0.1, seed: int = 0) -> Audio:
    """Something with the envelope of speech, (n,): bursts of a buzzing tone, and pauses with a little noise; RMS `level`."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 8))
    bursts = np.clip(np.sin(2 * np.pi * 1.5 * time) * 3, 0, 1)
    sound = tone * bursts + 1e-3 * np.random.default_rng(seed).standard_normal(len(time))
    return sound * (level / np.sqrt(np.mean(sound**2)))


def clip_file(
    folder: Path, samples: Audio, rate: int = 24_000, name: str = "clip.wav", format: str = "WAV", subtype: str = "PCM_16"
) -> Path:
    path = folder / name
    soundfile.write(path, samples, rate, format=format, subtype=subtype)
    return path


def wav_bytes(data: bytes, claimed: int | None = None, rate: int = 24_000, channels: int = 1) -> bytes:
    """A 16-bit WAV whose header may claim another size than it has."""
    size = len(data) if claimed is None else claimed
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 0xFFFFFFFF))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def refusal(path: Path) -> str:
    """The gate's message for `path`: plain text that says what to do."""
    with pytest.raises(VoiceError) as caught:
        check_clip(path)
    message = str(caught.value)
    assert not re.search(r"[<>`*\n]|Traceback|Error|libsndfile", message), message
    assert message.startswith("The clip"), message
    assert message.count(". ") >= 1, message  # what is wrong, and then what to do
    return message


# Bundled voices


def test_every_bundled_voice_passes_the_labs_own_gate() -> None:
    for voice in bundled_voices():
        clip = check_clip(voice.path)
        assert clip.warnings == (), voice.id
        assert check_transcript(voice.transcript, clip.seconds) == voice.transcript
        assert (clip.rate, clip.seconds) == (24_000, voice.seconds)
        info = soundfile.info(voice.path)
        assert (info.channels, info.subtype, voice.path.suffix) == (1, "PCM_16", ".wav")
        assert voice.sha256 == hashlib.sha256(voice.path.read_bytes()).hexdigest()
        assert voice.rms == pytest.approx(np.sqrt(np.mean(clip.samples.astype(float) ** 2)), rel=1e-6)
        assert voice.language in voices.LANGUAGES
        assert voice.suits in ("demo", "full", "any")
        assert voice.source.endswith(".")


def test_the_bundled_voices_come_in_their_order() -> None:
    ids = [voice.id for voice in bundled_voices()]
    assert ids[:3] == ["demo-female", "demo-male", "demo-female-quiet"]
    assert set(ids[3:]) <= {"upstream-en", "upstream-zh"}


def test_the_quiet_voice_is_the_female_one_14_db_lower() -> None:
    loud, quiet = find_voice("demo-female"), find_voice("demo-female-quiet")
    assert 20 * np.log10(loud.rms / quiet.rms) == pytest.approx(14, abs=0.05)
    a, b = (soundfile.read(voice.path)[0] for voice in (loud, quiet))
    assert np.abs(a * 10 ** (-14 / 20) - b).max() <= 0.51 / 32768
    assert quiet.rms < 0.1  # below upstream's target, or it would show nothing


def test_upstreams_examples_are_found_with_their_words() -> None:
    pytest.importorskip("f5_tts")
    assert find_voice("upstream-en").transcript == "Some call me nature, others call me mother nature."
    assert find_voice("upstream-zh").transcript == "对，这就是我，万人敬仰的太乙真人。"
    assert find_voice("upstream-zh").suits == "full"


@pytest.mark.parametrize("where", ["nowhere", "elsewhere"])
def test_without_the_f5_package_or_its_files_the_labs_own_voices_remain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    class Elsewhere:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(voices.importlib.util, "find_spec", lambda name: None if where == "nowhere" else Elsewhere)
    bundled_voices.cache_clear()
    try:
        assert [voice.id for voice in bundled_voices()] == ["demo-female", "demo-male", "demo-female-quiet"]
        assert default_voice("full").id == "demo-female"
    finally:
        bundled_voices.cache_clear()


def test_the_default_voice_fits_the_weights() -> None:
    assert default_voice("demo").id == "demo-female"
    if any(voice.id == "upstream-en" for voice in bundled_voices()):
        assert {default_voice(kind).id for kind in ("full", "random", "F5TTS_v1_Base", "path")} == {"upstream-en"}


def test_looking_at_voices_imports_neither_torch_nor_f5_tts() -> None:
    code = "import sys; from lab import voices; voices.bundled_voices(); voices.transcriber_available(); "
    code += "print([m for m in ('torch', 'f5_tts', 'gradio') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_transcriber_is_there_only_when_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    for answer, expected in ((None, False), (object(), False), ("/cache/file", True)):
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name, answer=answer: answer)
        assert voices.transcriber_available() is expected


# What the gate accepts


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_usual_formats_are_accepted_whatever_the_file_is_called(tmp_path: Path, format: str, subtype: str) -> None:
    sound = speech(rate=48_000)
    clip = check_clip(clip_file(tmp_path, sound, 48_000, "clip.txt", format, subtype))
    assert clip.samples.dtype == np.float32
    assert clip.samples.ndim == 1
    assert clip.seconds == pytest.approx(3.0, abs=0.1)
    assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000])
def test_any_usual_rate_becomes_24_khz_at_the_same_level_and_length(tmp_path: Path, rate: int) -> None:
    clip = check_clip(clip_file(tmp_path, speech(rate=rate), rate))
    assert clip.rate == rate
    samples, out_rate = soundfile.read(io.BytesIO(make_wav(clip.samples, clip.rate)))
    assert (out_rate, samples.ndim, len(samples)) == (24_000, 1, 72_000)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.1, rel=0.02)


def test_stereo_is_mixed_to_the_mean_of_its_channels(tmp_path: Path) -> None:
    sound = speech()
    both = check_clip(clip_file(tmp_path, np.stack([sound, sound], axis=1)))
    left = check_clip(clip_file(tmp_path, np.stack([sound, 0 * sound], axis=1)))
    mono = check_clip(clip_file(tmp_path, sound))
    np.testing.assert_array_equal(both.samples, mono.samples)
    np.testing.assert_allclose(left.samples, mono.samples / 2, atol=1e-7)


def test_a_wav_that_is_ours_already_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = clip_file(tmp_path, speech())
    clip = check_clip(path)
    wav = make_wav(clip.samples, clip.rate)
    assert wav == make_wav(clip.samples, clip.rate)
    assert wav == path.read_bytes()


def test_the_wav_is_the_same_on_every_machine() -> None:
    samples = (np.arange(24_000) * 37 % 16_384 - 8_192).astype(np.float32) / 32_768
    assert hashlib.sha256(make_wav(samples, 24_000)).hexdigest() == "dbc2e2c0eb1ed6225bcb65e1b580bcab075906d6047911c771ddb2ff2c9d61d9"


def test_overshoot_is_scaled_down_and_not_clipped(tmp_path: Path) -> None:
    loud = speech()
    loud *= 0.995 / np.abs(loud).max()
    samples, _ = soundfile.read(io.BytesIO(make_wav(loud.astype(np.float32), 24_000)))
    assert np.abs(samples).max() == pytest.approx(0.99, abs=1e-4)
    np.testing.assert_allclose(samples, loud * 0.99 / 0.995, atol=1e-4)


def test_a_streamed_wav_that_states_no_length_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(wav_bytes(make_wav(speech().astype(np.float32), 24_000)[44:], claimed=0xFFFFFFFF))
    assert check_clip(tmp_path / "clip.wav").seconds == 3.0


def test_long_noisy_and_quiet_clips_are_accepted_with_a_warning(tmp_path: Path) -> None:
    (long,) = check_clip(clip_file(tmp_path, speech(12.5))).warnings
    assert "cuts a reference at 12 seconds" in long
    noise = 0.05 * np.random.default_rng(0).standard_normal(48_000)
    (noisy,) = check_clip(clip_file(tmp_path, speech(2) + noise)).warnings
    assert "noisy" in noisy
    (quiet,) = check_clip(clip_file(tmp_path, speech(level=0.002), subtype="PCM_24")).warnings
    assert "very quiet (-54 dBFS)" in quiet
    assert check_clip(clip_file(tmp_path, speech(11.9))).warnings == ()


# What the gate refuses


@pytest.mark.parametrize(
    "content", [b"hello, I am text\n" * 500, b"RIFF\x00\x00", b"RIFF\x00\x00\x00\x00WAVE", os.urandom(5000), b"<svg onload=alert(1)>"]
)
def test_a_file_that_is_no_audio_is_refused_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.wav").write_bytes(content)
    assert "not audio" in refusal(tmp_path / "clip.wav")


def test_empty_missing_and_odd_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(b"")
    assert "no bytes" in refusal(tmp_path / "clip.wav")
    assert "could not be opened" in refusal(tmp_path / "nothing.wav")
    assert "not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a file" in refusal(tmp_path / "pipe.wav")  # and it does not wait for a writer


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_a_truncated_file_is_refused(tmp_path: Path, format: str, subtype: str) -> None:
    path = clip_file(tmp_path, speech(6), format=format, subtype=subtype)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "ends too early" in refusal(path)


@pytest.mark.parametrize("claimed", [144_001, 300_000, 0x7FFFFFFF, 0xFFFFFFF0])
def test_a_wav_header_that_claims_more_than_there_is_is_refused(tmp_path: Path, claimed: int) -> None:
    (tmp_path / "clip.wav").write_bytes(wav_bytes(make_wav(speech().astype(np.float32), 24_000)[44:], claimed))
    assert "ends too early" in refusal(tmp_path / "clip.wav")


def test_other_audio_formats_are_named(tmp_path: Path) -> None:
    assert "AIFF" in refusal(clip_file(tmp_path, speech(), format="AIFF"))
    assert "W64" in refusal(clip_file(tmp_path, speech(), format="W64"))


def test_a_clip_of_the_wrong_shape_is_refused_with_its_measure(tmp_path: Path) -> None:
    assert "3 channels" in refusal(clip_file(tmp_path, np.stack([speech()] * 3, axis=1)))
    assert "4000 Hz" in refusal(clip_file(tmp_path, speech(rate=4000), 4000))
    assert "192000 Hz" in refusal(clip_file(tmp_path, speech(rate=192_000), 192_000))
    assert "16.00 seconds" in refusal(clip_file(tmp_path, speech(16)))
    assert "15.00 seconds" in refusal(clip_file(tmp_path, speech(15 + 1 / 24_000)))
    assert "0.99 seconds" in refusal(clip_file(tmp_path, speech(0.99)))
    assert check_clip(clip_file(tmp_path, speech(15))).seconds == 15
    assert check_clip(clip_file(tmp_path, speech(1))).seconds == 1


def test_a_file_over_10_mb_is_refused_before_it_is_opened_as_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip_file(tmp_path, speech())
    os.truncate(path, 10 * 1024 * 1024 + 1)
    monkeypatch.setattr(voice_gate.soundfile, "info", None)
    assert "10.0 MB" in refusal(path)


def test_a_silent_clip_is_refused_with_its_level(tmp_path: Path) -> None:
    assert "at most -120 dBFS" in refusal(clip_file(tmp_path, np.zeros(48_000)))
    assert "-70 dBFS" in refusal(clip_file(tmp_path, speech(level=10 ** (-70 / 20)), subtype="PCM_24"))
    assert "constant offset of +0.50" in refusal(clip_file(tmp_path, np.full(48_000, 0.5)))
    assert "cancel each other" in refusal(clip_file(tmp_path, np.stack([speech(), -speech()], axis=1)))


def test_sound_that_24_khz_cannot_hold_counts_as_silence(tmp_path: Path) -> None:
    whistle = 0.3 * np.sin(2 * np.pi * 30_000 * np.arange(2 * 96_000) / 96_000)
    assert "silent" in refusal(clip_file(tmp_path, whistle, 96_000))


def test_a_clipped_clip_is_refused_and_a_few_peaks_are_not(tmp_path: Path) -> None:
    assert "overdriven" in refusal(clip_file(tmp_path, np.clip(speech() * 12, -1, 1)))
    one_side = np.stack([speech(), np.clip(speech() * 12, -1, 1)], axis=1)
    assert "overdriven" in refusal(clip_file(tmp_path, one_side))
    peaks = speech()
    peaks[::4000] = 1.0  # single samples at full scale are no flat tops
    check_clip(clip_file(tmp_path, peaks))


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "not numbers"), (np.inf, "not numbers"), (-np.inf, "not numbers"), (1e30, "1e+30 times full scale")]
)
def test_samples_that_are_no_sound_are_refused(tmp_path: Path, value: float, words: str) -> None:
    sound = speech()
    sound[1000] = value
    assert words in refusal(clip_file(tmp_path, sound, subtype="FLOAT"))


# Bombs


def forge_flac_frames(path: Path, frames: int) -> None:
    """Overwrite the 36-bit sample count in a FLAC's STREAMINFO."""
    data = bytearray(path.read_bytes())
    word = int.from_bytes(data[18:26], "big") & ~((1 << 36) - 1)
    data[18:26] = (word | frames).to_bytes(8, "big")
    path.write_bytes(data)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of nothing, stereo at 96 kHz: 0.9 GB as float32, in a small file."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.flac"
    with soundfile.SoundFile(path, "w", samplerate=96_000, channels=2, subtype="PCM_16", format="FLAC") as file:
        minute = np.zeros((96_000 * 60, 2), dtype=np.int16)
        for _ in range(20):
            file.write(minute)
    return path


@pytest.mark.parametrize("stated", [None, 0, 96_000 * 10])
def test_a_flac_bomb_is_refused_quickly_and_in_little_memory(bomb: Path, tmp_path: Path, stated: int | None) -> None:
    path = tmp_path / "bomb.wav"
    shutil.copy(bomb, path)
    assert path.stat().st_size < 4e6
    if stated is not None:
        forge_flac_frames(path, stated)
    tracemalloc.start()
    start = time.perf_counter()
    message = refusal(path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {None: "20 minutes", 0: "does not say how long it is", 960_000: "silent"}[stated] in message
    assert seconds < 3
    assert peak < 150e6


def test_decoding_stops_at_the_cap_even_if_the_decoder_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip_file(tmp_path, speech())
    reads = 0

    def endless(self: soundfile.SoundFile, frames: int, **_: Any) -> npt.NDArray[np.float32]:
        nonlocal reads
        reads += 1
        return np.zeros((frames, 1), dtype=np.float32)

    monkeypatch.setattr(voice_gate.soundfile.SoundFile, "read", endless)
    assert "more than 15 seconds" in refusal(path)
    assert reads <= 6


# Transcripts


def test_a_transcript_is_made_plain() -> None:
    assert check_transcript("  Two\n words,\tthen “more”. ", 2.0) == 'Two words, then "more".'
    assert check_transcript("对，这就是我，万人敬仰的太乙真人。", 6.76) == "对，这就是我，万人敬仰的太乙真人。"


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b\u2060", "...!?", "。"])
def test_a_blank_transcript_is_refused_and_whisper_explained(text: str) -> None:
    with pytest.raises(VoiceError, match=r"missing.*Whisper"):
        check_transcript(text, 3.0)


@pytest.mark.parametrize(
    ("text", "seconds", "message"),
    [
        ("a" * 301, 14.0, "301 characters; 300"),
        ("Hi", 3.0, "too short for this clip"),
        ("word " * 30, 3.0, "too long for this clip"),
        ("字" * 60, 4.0, "too long for this clip"),
        ("broken \ud800 text here", 3.0, "broken characters"),
    ],
)
def test_a_transcript_that_cannot_fit_the_clip_is_refused(text: str, seconds: float, message: str) -> None:
    with pytest.raises(VoiceError, match=message):
        check_transcript(text, seconds)


@given(st.text(max_size=400), st.floats(1, 15))
def test_any_transcript_is_accepted_for_good_or_refused_for_people(text: str, seconds: float) -> None:
    try:
        words = check_transcript(text, seconds)
    except VoiceError:
        return
    assert check_transcript(words, seconds) == words
    assert words.isprintable()
    assert 2 <= len(words.encode()) / seconds <= 40


# Importing


def test_an_own_clip_is_stored_with_its_consent(tmp_path: Path, store: Store) -> None:
    path = clip_file(tmp_path, speech(rate=44_100), 44_100, "secret name.ogg", "OGG", "VORBIS")
    voice = import_voice(path, f" {WORDS}\n", "en", True, store, name=" <b>Ada</b>\u202e ")
    assert (voice.name, voice.language, voice.transcript) == ("<b>Ada</b>", "en", WORDS)
    assert voice.seconds == pytest.approx(3.0, abs=0.01)
    assert voice.path.suffix == ".wav"  # upstream gives any other name to ffmpeg
    assert soundfile.info(voice.path).subtype == "PCM_16"
    assert voice.sha256 == hashlib.sha256(voice.path.read_bytes()).hexdigest()
    row = store.load_voice(voice.id)
    assert row.consent_text == CONSENT_TEXT
    assert find_voice(voice.id, store=store) == voices.voice_from_row(row, store) == voice
    store.close()
    assert b"secret name" not in b"".join(p.read_bytes() for p in store.data_dir.rglob("*") if p.is_file())


def test_deleting_a_voice_removes_its_recording_under_every_name(tmp_path: Path, store: Store) -> None:
    voice = import_voice(clip_file(tmp_path, speech()), WORDS, "en", True, store)
    store.delete_voice(voice.id)
    assert not voice.path.exists()
    assert not [path for path in (store.data_dir / "blobs").rglob("*") if path.is_file()]
    with pytest.raises(NotFound):
        find_voice(voice.id, store=store)


def test_an_altered_recording_is_not_used(tmp_path: Path, store: Store) -> None:
    path = clip_file(tmp_path, speech())
    voice = import_voice(path, WORDS, "en", True, store)
    voice.path.write_bytes(b"RIFF")
    with pytest.raises(LabError, match="altered"):
        find_voice(voice.id, store=store)
    again = import_voice(path, WORDS, "en", True, store)
    assert hashlib.sha256(again.path.read_bytes()).hexdigest() == voice.sha256


def test_nothing_is_stored_without_consent_language_words_or_sound(tmp_path: Path, store: Store) -> None:
    good = clip_file(tmp_path, speech())
    silent = clip_file(tmp_path, np.zeros(48_000), name="silent.wav")
    for path, words, language, consent, name, message in (
        (good, WORDS, "en", False, "", "needs consent"),
        (good, WORDS, "fr", True, "", "English"),
        (good, " ", "en", True, "", "transcript is missing"),
        (silent, WORDS, "en", True, "", "silent"),
        (good, WORDS, "en", True, "n" * 61, "61 characters"),
    ):
        with pytest.raises(VoiceError, match=message):
            import_voice(path, words, language, consent, store, name=name)
    assert store.list_voices() == []
    assert not [path for path in (store.data_dir / "blobs").rglob("*") if path.is_file()]


def test_a_clip_given_by_path_is_used_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = clip_file(tmp_path, speech(rate=16_000), 16_000, "mine.flac", "FLAC")
    with open_voice(str(path), transcript=WORDS, consent=True) as voice:
        assert (voice.transcript, voice.language, voice.seconds) == (WORDS, "en", 3.0)
        assert soundfile.info(voice.path).samplerate == 24_000
        assert voice.path != path
    assert not voice.path.exists()
    with open_voice(str(path), transcript="这是一段录音的文字。", consent=True) as voice:
        assert voice.language == "zh"
    with pytest.raises(VoiceError, match="consent"), open_voice(str(path), transcript=WORDS):
        pass
    with open_voice("demo-male") as voice:
        assert voice == find_voice("demo-male")
    assert find_voice("demo-male").path.exists()


@pytest.mark.parametrize("name", ["", "nobody", "/nonexistent.wav", "a" * 5000, "\0", "~nobody/x.wav", "A" * 22])
def test_an_unknown_voice_is_answered_with_the_voices_there_are(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match=r"demo-female, demo-male|not a file"):
        find_voice(name, transcript=WORDS, consent=True)
    with pytest.raises(LabError):
        find_voice(name, transcript=WORDS, consent=True, store=store)


# Invariants

formats = st.sampled_from([("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=formats,
    rate=st.one_of(
        st.sampled_from([8_000, 24_000, 44_100, 48_000, 96_000]), st.integers(800, 9_600).map(lambda tens: tens * 10)
    ),  # what FLAC can write
    seconds=st.floats(1.0, 1.6),
    channels=st.integers(1, 2),
    gain=st.floats(-70, 30),
    noise=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_whatever_is_accepted_becomes_a_wav_that_is_accepted_unchanged(
    tmp_path: Path, kind: tuple[str, str], rate: int, seconds: float, channels: int, gain: float, noise: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    sound = speech(seconds, rate)[:, None] + noise * generator.standard_normal((round(seconds * rate), channels))
    sound = np.clip(sound * 10 ** (gain / 20), -1, 1) if gain > 0 else sound * 10 ** (gain / 20)
    path = clip_file(tmp_path, sound, rate, "any", *kind)
    try:
        clip = check_clip(path)
    except VoiceError:
        assume(False)
    wav = make_wav(clip.samples, clip.rate)
    (tmp_path / "ours.wav").write_bytes(wav)
    info = soundfile.info(tmp_path / "ours.wav")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 24_000, 1)
    assert info.frames == pytest.approx(len(clip.samples) * 24_000 / clip.rate, abs=1)
    again = check_clip(tmp_path / "ours.wav")
    assert np.isfinite(again.samples).all()
    assert np.abs(again.samples).max() <= 0.99
    assert 1 <= again.seconds <= 15
    assert make_wav(again.samples, again.rate) == wav


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=formats, changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6), keep=st.floats(0, 1))
def test_a_damaged_file_is_accepted_or_refused_and_never_an_accident(
    tmp_path: Path, kind: tuple[str, str], changes: list[tuple[int, int]], keep: float
) -> None:
    data = bytearray(clip_file(tmp_path, speech(1.1, 8_000), 8_000, "any", *kind).read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    (tmp_path / "damaged").write_bytes(data[: max(1, round(len(data) * min(1, keep * 2)))])
    try:
        clip = check_clip(tmp_path / "damaged")
    except VoiceError:
        return
    assert 1 <= clip.seconds <= 15
    assert len(make_wav(clip.samples, clip.rate)) <= 44 + 2 * 360_001
